//! The guests of a benchmark: kernels that are there, and modules that measure.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use plugstorm_wire::LATER_MODULES;

use super::{BenchArgs, KERNEL};
use crate::bench::model::{Side, SideFacts};
use crate::bench::run::Guests;
use crate::cli::{Failure, absolute, show};
use crate::host::nested::Batch;
use crate::host::room::{Size, nested_mib};
use crate::initramfs::{self, ExtraFile};
use crate::kernels::{self, GuestKernel, KernelError};
use crate::scenario::{self, Device, Driver, Guest as GuestSettings, Scenario};
use crate::snapshots::digest;
use crate::storm::guest::Guest;
use crate::storm::machine::{GuestParts, MachineGuest, command_line, loadable};

/// A guest whose devices are plugged in when they are wanted: its steps are not run.
const GUEST: &str = r#"
name = "bench"
cycles = 1

[guest]
memory = "512MiB"

[[device]]
name = "none"
driver = "plugstorm"
design = "stack-token"
lines = 1

[[step]]
do = "add"
device = "none"

[[step]]
do = "remove"
device = "none"
how = "surprise"
"#;

/// What measures, in the order in which they are loaded.
const OURS: [&str; 2] = ["plugstorm.ko", "plugstorm_bench.ko"];

/// What each side's guests are made of.
pub(super) struct Prepared {
    sides: BTreeMap<Side, Made>,
    scenario: Scenario,
}

/// What one side's guests are made of. Paths are absolute: a nested machine has them at the same place.
struct Made {
    /// The file, or the name in the cache, which a nested machine shares.
    kernel: PathBuf,
    is_file: bool,
    modules: Option<PathBuf>,
    parts: GuestParts,
    digest: String,
}

impl Prepared {
    /// Finds the kernels and their modules.
    pub(super) fn new(args: &BenchArgs) -> Result<Self, Failure> {
        let mut scenario = scenario::parse(GUEST, "bench", "bench")?;
        // A slot for each design.
        let devices = scenario.devices.first().map(|device| {
            let designs = args.wanted().designs.into_iter();
            let of = |design| Device { driver: Driver::Plugstorm(design), ..device.clone() };
            designs.map(of).collect()
        });
        scenario.devices = devices.unwrap_or_default();
        scenario.guest.cpus = args.cpus;
        let mut sides = BTreeMap::new();
        for side in args.sides() {
            let (name, modules) = args.parts(side);
            sides.insert(side, Made::new(name, modules.map(PathBuf::as_path), &scenario.guest)?);
        }
        Ok(Self { sides, scenario })
    }

    /// What is known of a side before its guest speaks.
    pub(super) fn facts(&self, side: Side) -> Option<SideFacts> {
        let made = self.sides.get(&side)?;
        Some(SideFacts {
            kernel: made.kernel.display().to_string(),
            modules: made.modules.as_ref().map(|folder| folder.display().to_string()),
            made_of: made.digest.clone(),
            release: String::new(),
            hz: 0,
            preemption: None,
            cpus: self.scenario.guest.cpus.into(),
        })
    }

    /// Both sides are of the same bytes.
    pub(super) fn is_of_one(&self) -> bool {
        let mut digests = self.sides.values().map(|made| &made.digest);
        digests.next().is_some_and(|first| self.sides.len() > 1 && digests.all(|digest| digest == first))
    }

    /// A nested machine that is given what these guests are made of, and has room for one at a time.
    pub(super) fn batch(&self) -> Batch {
        let guest = &self.scenario.guest;
        let size = Size::of(guest.cpus, guest.memory_bytes);
        let mut batch = Batch::new().memory_mib(nested_mib(&[size], 1));
        for made in self.sides.values() {
            let files = made.is_file.then(|| made.kernel.clone()).into_iter().chain(made.modules.clone());
            batch = files.fold(batch, Batch::input);
        }
        batch
    }

    /// The options that name a side's kernel and modules, in a nested machine too.
    pub(super) fn words(&self, side: Side, kernel: &str, modules: &str) -> Vec<OsString> {
        let Some(made) = self.sides.get(&side) else { return Vec::new() };
        let mut words = vec![kernel.into(), made.kernel.clone().into()];
        words.extend(made.modules.iter().flat_map(|folder| [modules.into(), folder.clone().into()]));
        words
    }

    /// Guests on this machine's KVM.
    pub(super) fn guests(&self) -> Ours<'_> {
        Ours { prepared: self }
    }
}

impl Made {
    fn new(name: &str, modules: Option<&Path>, guest: &GuestSettings) -> Result<Self, Failure> {
        let modules = modules.map(absolute).transpose()?;
        let kernel = kernel(name, modules.as_deref())?;
        let initrd = initrd(&kernel)?;
        loadable(&kernel.image, Some(&initrd), &command_line(&guest.append), guest.cpus, guest.memory_bytes)?;
        let file = kernel.file().map(absolute).transpose()?;
        Ok(Self {
            is_file: file.is_some(),
            kernel: file.unwrap_or_else(|| PathBuf::from(&kernel.name)),
            modules,
            digest: digest_of(&kernel.image, &initrd)?,
            parts: GuestParts { kernel: kernel.image.clone(), initrd: Arc::new(initrd) },
        })
    }
}

/// Boots them.
pub(super) struct Ours<'a> {
    prepared: &'a Prepared,
}

impl Guests for Ours<'_> {
    fn guest(&mut self, side: Side) -> Option<Box<dyn Guest>> {
        let parts = self.prepared.sides.get(&side)?.parts.clone();
        Some(Box::new(MachineGuest::new(&self.prepared.scenario, parts, None).with_instruction_counter()))
    }

    fn facts(&self, side: Side) -> Option<SideFacts> {
        self.prepared.facts(side)
    }
}

fn digest_of(image: &Path, initrd: &[u8]) -> Result<String, Failure> {
    let kernel = std::fs::read(image)
        .map_err(|error| Failure::machine(&format!("cannot read the kernel {}: {error}", image.display())))?;
    let mut parts = digest::Parts::default();
    [&kernel[..], initrd].into_iter().for_each(|part| parts.part(part));
    Ok(parts.digest())
}

/// The kernel, with what measures on it.
fn kernel(name: &str, modules: Option<&Path>) -> Result<GuestKernel, Failure> {
    let mut kernel = kernels::resolve(name, &mut show::progress).map_err(|error| match error {
        KernelError::Cache(_) => Failure::machine(&error),
        _ => Failure::user(&format!("{error}; {}", build_one(name))),
    })?;
    if !kernel.watchers.is_empty() {
        let by = kernel.watchers.join(", ");
        let words = format!("kernel {name} watches itself ({by}), and would measure that");
        return Err(Failure::user(&format!("{words}; {}, beside whatever else it was built with", build_one(name))));
    }
    if let Some(folder) = modules {
        replace(&mut kernel.measures, folder)?;
    }
    if kernel.measures.is_empty() {
        let reason = kernel.notes.first().cloned().unwrap_or_else(|| "our module was not built for it".to_owned());
        return Err(Failure::machine(&format!(
            "nothing can be measured on kernel {name}: {reason}; {}",
            build_one(name)
        )));
    }
    Ok(kernel)
}

/// What to do about a kernel that is not there, or is no good.
fn build_one(name: &str) -> String {
    let name = if name.contains('/') { KERNEL } else { name };
    format!("`plugstorm kernel build {name} --config timing` builds one for measuring")
}

/// Takes those modules from the folder that it has; ours must be among them.
fn replace(modules: &mut Vec<PathBuf>, folder: &Path) -> Result<(), Failure> {
    let mut replaced = 0;
    // A kernel that the cache does not know has none to take the place of.
    if modules.is_empty() {
        modules.extend(OURS.map(|name| folder.join(name)).into_iter().filter(|own| own.is_file()));
        replaced = modules.len();
    }
    for module in modules {
        if let Some(own) = module.file_name().map(|name| folder.join(name)).filter(|own| own.is_file()) {
            *module = own;
            replaced += 1;
        }
    }
    if replaced > 0 {
        return Ok(());
    }
    Err(Failure::user(&format!(
        "{} has neither plugstorm.ko nor plugstorm_bench.ko: build guest/module there for this kernel, and name the folder with \
         --modules",
        folder.display()
    )))
}

/// With the kernel's own measures beside, to be loaded when they are wanted.
fn initrd(kernel: &GuestKernel) -> Result<Vec<u8>, Failure> {
    let agent = initramfs::agent().map_err(|error| Failure::machine(&error))?;
    let mut later = Vec::new();
    for module in &kernel.scale_tests {
        let name = module.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let content = std::fs::read(module)
            .map_err(|error| Failure::machine(&format!("cannot read {}: {error}", module.display())))?;
        let path = format!("{}/{name}", LATER_MODULES.trim_start_matches('/'));
        later.push(ExtraFile { path, mode: 0o644, content });
    }
    initramfs::build(&agent, &kernel.measures, &later).map_err(|error| Failure::machine(&error))
}
