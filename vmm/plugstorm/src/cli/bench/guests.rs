//! The guests of a benchmark: kernels that are there, and modules that measure.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use plugstorm_wire::LATER_MODULES;

use super::BenchArgs;
use crate::bench::model::{Side, SideFacts};
use crate::bench::run::Guests;
use crate::cli::{Failure, absolute, show};
use crate::host::nested::Batch;
use crate::host::room::{Size, nested_mib};
use crate::initramfs::{self, ExtraFile};
use crate::kernels::{self, GuestKernel, KernelError};
use crate::scenario::{self, Device, Driver, Scenario};
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

/// What to do about a kernel that is not there.
const BUILD_ONE: &str = "`plugstorm kernel build timing` builds one for measuring, once";

/// What each side's guests are made of.
pub(super) struct Prepared {
    kernels: BTreeMap<Side, GuestKernel>,
    parts: BTreeMap<Side, GuestParts>,
    pub(super) scenario: Scenario,
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
        let (mut kernels, mut parts) = (BTreeMap::new(), BTreeMap::new());
        for side in args.sides() {
            let (name, modules) = args.parts(side);
            let kernel = kernel(name, modules.map(PathBuf::as_path))?;
            let (initrd, guest) = (Arc::new(initrd(&kernel)?), &scenario.guest);
            loadable(&kernel.image, Some(&initrd), &command_line(&guest.append), guest.cpus, guest.memory_bytes)?;
            parts.insert(side, GuestParts { kernel: kernel.image.clone(), initrd });
            kernels.insert(side, kernel);
        }
        Ok(Self { kernels, parts, scenario })
    }

    /// A nested machine that is given what these guests are made of, and has room for one at a time.
    pub(super) fn batch(&self) -> Result<Batch, Failure> {
        let guest = &self.scenario.guest;
        let size = Size::of(guest.cpus, guest.memory_bytes);
        let mut batch = Batch::new().memory_mib(nested_mib(&[size], 1));
        for file in self.kernels.values().filter_map(GuestKernel::file) {
            batch = batch.input(absolute(file)?);
        }
        Ok(batch)
    }

    /// Guests on this machine's KVM.
    pub(super) fn guests(&self, args: &BenchArgs) -> Ours {
        let sides = self.parts.iter().map(|(side, parts)| (*side, (parts.clone(), args.facts(*side))));
        Ours { sides: sides.collect(), scenario: self.scenario.clone() }
    }
}

/// What a kernel is called in a nested machine. One in the cache keeps its name: the cache is shared.
pub(super) fn shared_name(name: &str) -> Result<OsString, Failure> {
    if name.contains('/') { Ok(absolute(Path::new(name))?.into()) } else { Ok(name.into()) }
}

/// Boots them.
pub(super) struct Ours {
    sides: BTreeMap<Side, (GuestParts, SideFacts)>,
    scenario: Scenario,
}

impl Guests for Ours {
    fn guest(&mut self, side: Side) -> Option<Box<dyn Guest>> {
        let (parts, _) = self.sides.get(&side)?;
        Some(Box::new(MachineGuest::new(&self.scenario, parts.clone(), None).with_instruction_counter()))
    }

    fn facts(&self, side: Side) -> Option<SideFacts> {
        self.sides.get(&side).map(|(_, facts)| facts.clone())
    }
}

/// The kernel, with what measures on it.
fn kernel(name: &str, modules: Option<&Path>) -> Result<GuestKernel, Failure> {
    let mut kernel = kernels::resolve(name, &mut show::progress).map_err(|error| match error {
        KernelError::Cache(_) => Failure::machine(&error),
        _ => Failure::user(&format!("{error}; {BUILD_ONE}")),
    })?;
    if let Some(folder) = modules {
        replace(&mut kernel.measures, &absolute(folder)?)?;
    }
    if kernel.measures.is_empty() {
        let reason = kernel.notes.first().cloned().unwrap_or_else(|| "our module was not built for it".to_owned());
        return Err(Failure::machine(&format!("nothing can be measured on kernel {name}: {reason}; {BUILD_ONE}")));
    }
    Ok(kernel)
}

/// Takes those modules from the folder that it has; ours must be among them.
fn replace(modules: &mut [PathBuf], folder: &Path) -> Result<(), Failure> {
    let mut replaced = 0;
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
        "{} has no plugstorm.ko: build guest/module there for this kernel, and name the folder with --modules",
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
