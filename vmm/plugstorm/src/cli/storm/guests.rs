//! What guests are started from: a kernel, an initramfs, a snapshot.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use plugstorm_machine::host_cpu;
use plugstorm_wire::encode;

use super::super::{Failure, show};
use crate::initramfs;
use crate::kernels::{self, GuestKernel, HOST_KERNEL, KernelError};
use crate::own::{self, Parcel};
use crate::scenario::{Cpu, Mistake, Mistakes, Scenario, ScenarioError};
use crate::snapshots::{Automatic, Ingredients, MadeOf, Shelf, SnapshotError, Store, digest};
use crate::storm::configuration;
use crate::storm::fork::Keeper;
use crate::storm::machine::{command_line, loadable, root_ports};

/// What a guest is started from.
#[derive(Clone)]
pub(in crate::cli) struct GuestFiles {
    /// As the user named it.
    pub(in crate::cli) kernel_name: String,
    pub(in crate::cli) kernel: GuestKernel,
    pub(in crate::cli) initrd: Arc<Vec<u8>>,
    /// Length and time of the kernel's image when it was looked at.
    stamp: Option<(u64, SystemTime)>,
    /// Once somebody has asked for it: to digest a kernel takes its time.
    digest: Arc<OnceLock<String>>,
    /// Of the kinds of guest that were asked for.
    kinds: Arc<Mutex<Vec<(Kind, MadeOf, u32)>>>,
}

/// What two guests of the same files may still differ in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kind {
    append: String,
    cpus: u8,
    cpu: Cpu,
    memory_bytes: u64,
    root_ports: u8,
}

impl Kind {
    fn of(scenario: &Scenario) -> Self {
        let guest = &scenario.guest;
        let root_ports = root_ports(scenario.devices.len());
        let (append, cpus, cpu, memory_bytes) = (guest.append.clone(), guest.cpus, guest.cpu, guest.memory_bytes);
        Self { append, cpus, cpu, memory_bytes, root_ports }
    }
}

impl GuestFiles {
    /// A kernel may be built or fetched anew while runs go on; the modules that go with this one are another one's no more.
    ///
    /// # Errors
    /// That the image is not the one that it was.
    pub(super) fn is_unchanged(&self) -> Result<(), Failure> {
        if stamp(&self.kernel.image) == self.stamp {
            return Ok(());
        }
        let image = self.kernel.image.display();
        Err(Failure::user(&format!("the kernel {image} was replaced while runs with it went on; begin them anew")))
    }

    /// Of the kernel and the initramfs.
    pub(in crate::cli) fn digest(&self) -> Result<String, Failure> {
        if let Some(known) = self.digest.get() {
            return Ok(known.clone());
        }
        let image = &self.kernel.image;
        let unreadable = |error: std::io::Error| Failure::user(&format!("{} cannot be read: {error}", image.display()));
        let text = format!("{} {}", digest(&fs::read(image).map_err(unreadable)?), digest(&self.initrd));
        Ok(self.digest.get_or_init(|| digest(text.as_bytes())).clone())
    }

    /// Finds and keeps the snapshot of a scenario's guests.
    pub(super) fn keeper(&self, scenario: &Scenario, shelf: &Shelf) -> Result<Option<Box<dyn Keeper>>, Failure> {
        let kind = Kind::of(scenario);
        // Held meanwhile: runs beside this one wait instead of doing the same.
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kinds.iter().find(|(known, ..)| *known == kind).map(|(_, made_of, khz)| (made_of.clone(), *khz));
        let (made_of, tsc_khz) = match known {
            Some(known) => known,
            None => match made_of(&self.kernel, &self.kernel_name, &self.initrd, scenario)? {
                (Ok(made_of), tsc_khz) => {
                    kinds.push((kind, made_of.clone(), tsc_khz));
                    (made_of, tsc_khz)
                }
                (Err(error), _) => {
                    show::err(&format!("note: guests are booted, since no snapshot can be used: {error}\n"));
                    return Ok(None);
                }
            },
        };
        Ok(Some(Box::new(Automatic::new(Store::here(), made_of, tsc_khz).sharing(shelf))))
    }
}

/// What was prepared for a run, for the next one that wants the same.
#[derive(Default)]
pub(in crate::cli) struct Pantry {
    kernels: Vec<(String, GuestKernel)>,
    guests: Vec<(Parcel, GuestFiles)>,
    /// Which of `guests` were found to fit into which machines.
    loadable: Vec<(usize, Kind)>,
}

impl Pantry {
    /// What the guests of a scenario are started from: found, built, and such that a machine can load it. `file` is the
    /// scenario's; `kernel` is the command line's.
    pub(in crate::cli) fn guest(
        &mut self,
        file: &Path,
        scenario: &Scenario,
        kernel: Option<&str>,
    ) -> Result<GuestFiles, Failure> {
        let name = kernel.or(scenario.guest.kernel.as_deref()).unwrap_or(HOST_KERNEL);
        let kernel = self.kernel(name).map_err(|error| kernel_failure(kernel.is_none(), file, scenario, &error))?;
        let parcel = own::pack(scenario, file, &kernel)?;
        let index = self.files(name, kernel, parcel)?;
        let (_, guest) = self.guests.get(index).ok_or_else(|| Failure::machine(&"a guest's files were lost"))?;
        let place = (index, Kind::of(scenario));
        if !self.loadable.contains(&place) {
            let Kind { append, cpus, memory_bytes, .. } = &place.1;
            loadable(&guest.kernel.image, Some(&guest.initrd), &command_line(append), *cpus, *memory_bytes)
                .map_err(|error| Failure::user(&error))?;
            self.loadable.push(place);
        }
        Ok(guest.clone())
    }

    fn kernel(&mut self, name: &str) -> Result<GuestKernel, KernelError> {
        if let Some((_, kernel)) = self.kernels.iter().find(|(known, _)| known == name) {
            return Ok(kernel.clone());
        }
        let kernel = kernels::resolve(name, &mut show::progress)?;
        self.kernels.push((name.to_owned(), kernel.clone()));
        Ok(kernel)
    }

    /// Where in `guests` they are.
    fn files(&mut self, name: &str, kernel: GuestKernel, parcel: Parcel) -> Result<usize, Failure> {
        let known = self.guests.iter().position(|(known, files)| files.kernel_name == name && *known == parcel);
        if let Some(index) = known {
            return Ok(index);
        }
        let initrd = initrd(&parcel)?;
        let files = GuestFiles {
            kernel_name: name.to_owned(),
            stamp: stamp(&kernel.image),
            kernel,
            initrd,
            digest: Arc::default(),
            kinds: Arc::default(),
        };
        self.guests.push((parcel, files));
        Ok(self.guests.len() - 1)
    }
}

fn stamp(image: &Path) -> Option<(u64, SystemTime)> {
    let image = fs::metadata(image).ok()?;
    Some((image.len(), image.modified().ok()?))
}

/// The initramfs of a guest with our agent and this.
pub(in crate::cli) fn initrd(parcel: &Parcel) -> Result<Arc<Vec<u8>>, Failure> {
    let agent = initramfs::agent().map_err(|error| Failure::machine(&error))?;
    initramfs::build(&agent, &parcel.modules, &parcel.extra).map(Arc::new).map_err(|error| Failure::machine(&error))
}

/// A kernel that the scenario names (`is_theirs`) is shown at its place there.
fn kernel_failure(is_theirs: bool, file: &Path, scenario: &Scenario, error: &KernelError) -> Failure {
    if is_theirs
        && let Some(span) = scenario.kernel_span.clone()
        && let Ok(text) = std::fs::read_to_string(file)
    {
        let help = "give a name from `plugstorm kernel list`, a file, or --kernel on the command line";
        let mistake = Mistake::new(span, error.to_string(), help);
        return ScenarioError::from(Mistakes::new(&file.display().to_string(), &text, vec![mistake])).into();
    }
    match error {
        KernelError::Cache(_) => Failure::machine(error),
        _ => Failure::user(error),
    }
}

/// What the guests of a scenario are made of on this host, and its TSC.
pub(in crate::cli) fn made_of(
    kernel: &GuestKernel,
    kernel_name: &str,
    initrd: &[u8],
    scenario: &Scenario,
) -> Result<(Result<MadeOf, SnapshotError>, u32), Failure> {
    let guest = &scenario.guest;
    let host = host_cpu(guest.cpu.into(), guest.cpus).map_err(|error| Failure::machine(&error))?;
    let made_of = Ingredients {
        kernel: &kernel.image,
        kernel_name,
        initrd: Some(initrd),
        command_line: &command_line(&guest.append),
        cpus: guest.cpus,
        memory_bytes: guest.memory_bytes,
        root_ports: root_ports(scenario.devices.len()),
        cpu: guest.cpu.name(),
        cpuid_digest: &digest(&host.cpuid),
        told: &encode(&configuration()).map_err(|error| Failure::machine(&error))?,
    }
    .made_of();
    Ok((made_of, host.tsc_khz))
}
