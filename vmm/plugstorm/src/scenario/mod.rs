//! Scenarios: which devices, who works on them, and in which way they vanish.
//!
//! A scenario is a TOML file; `fixtures/scenarios/README.md` is its reference. [`load`] reads one and checks it wholly, so
//! that a [`Scenario`] in hand can be run: every name in it is resolved to an index, every number is within its bounds, and
//! every step can happen at its place (see `steps.rs` for the states of a device).

mod check;
mod design;
mod error;
mod lender;
mod own;
mod points;
mod quantity;
mod steps;
mod table;

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use plugstorm_wire::{Edge, Operation, Sharing};
use serde::{Deserialize, Serialize};

pub use check::operation_name;
pub use design::Design;
pub(crate) use error::of_toml;
pub use error::{Mistake, Mistakes, ScenarioError};
pub use own::{GuestFile, ModuleFile, Node, Program, Work};
pub use points::Point;
pub use quantity::{Pause, parse_duration, parse_size};

/// Devices that a scenario may have: each gets a root port of its own.
pub const MOST_DEVICES: usize = 16;
/// Threads that a hammer may have.
pub const MOST_THREADS: u32 = 64;
/// Cycles that a run may have.
pub const MOST_CYCLES: u32 = 1_000_000;
/// vCPUs that a guest may have.
pub const MOST_CPUS: u8 = 16;
/// Lines that a gpio device may have. One line request names at most 64 (`GPIO_V2_LINES_MAX`).
pub const MOST_LINES: u16 = 64;
/// The least memory that a guest may have, in bytes.
pub const LEAST_MEMORY_BYTES: u64 = 96 << 20;
/// The most memory that a guest may have, in bytes.
pub const MOST_MEMORY_BYTES: u64 = 64 << 30;
/// The longest addition to the kernel's command line, in bytes. The whole must stay below the kernel's 2048.
pub const LONGEST_APPEND_BYTES: usize = 1024;

/// A checked scenario.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Scenario {
    /// Its name: names the output folder too.
    pub name: String,
    /// What it is for, in one sentence.
    pub about: String,
    /// Decides every pause and choice.
    pub seed: u64,
    /// How often the steps are run.
    pub cycles: u32,
    /// When it ends.
    pub until: Until,
    /// When a guest is replaced by a fresh one.
    pub renew: Renew,
    /// The guest.
    pub guest: Guest,
    /// How long things may take, before the measured slowdown.
    pub time_outs: TimeOuts,
    /// Devices; a device's index is its root port's index.
    pub devices: Vec<Device>,
    /// Delay points of our module that are armed.
    pub points: Vec<Point>,
    /// Hammers.
    pub hammers: Vec<Hammer>,
    /// Programs that steps run.
    pub programs: Vec<Program>,
    /// What is done in each cycle.
    pub steps: Vec<Step>,
    /// Things that are allowed and probably not meant, one sentence each.
    pub warnings: Vec<String>,
    /// Where the guest's kernel is named in the file, in bytes; for errors that are found later.
    pub kernel_span: Option<Range<usize>>,
}

impl Scenario {
    /// Whether one of its devices can come to this point: a scenario may arm the points of several designs.
    #[must_use]
    pub fn concerned_by(&self, point: &Point) -> bool {
        let concerned = |device: &Device| matches!(device.driver, Driver::Plugstorm(design) if point.concerns(design));
        self.devices.iter().any(concerned)
    }

    /// Puts another design under every device that our module drives.
    ///
    /// # Errors
    /// One sentence, if no device of the scenario is driven by our module.
    pub fn override_design(&mut self, design: Design) -> Result<(), String> {
        let mut found = false;
        for device in &mut self.devices {
            if let Driver::Plugstorm(current) = &mut device.driver {
                *current = design;
                found = true;
            }
        }
        if found {
            Ok(())
        } else {
            Err(format!(
                "--design: no device of scenario `{}` has driver = \"plugstorm\"; only those have a design",
                self.name
            ))
        }
    }

    /// Sets how often the steps are run.
    ///
    /// # Errors
    /// One sentence, if the number is out of bounds.
    pub fn override_cycles(&mut self, cycles: u32) -> Result<(), String> {
        if !(1..=MOST_CYCLES).contains(&cycles) {
            return Err(format!("--cycles: {cycles} is out of bounds; give 1 to {MOST_CYCLES}"));
        }
        self.cycles = cycles;
        Ok(())
    }
}

/// When a run ends, apart from the last cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Until {
    /// With the first cycle that finds something.
    FirstFinding,
    /// Never: a finding ends its guest, and the next cycle boots a new one.
    AllCycles,
}

impl Until {
    /// Its name in scenarios and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::FirstFinding => "first-finding",
            Self::AllCycles => "all-cycles",
        }
    }
}

/// When a guest is replaced by a fresh one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Renew {
    /// After a finding: it is no longer a guest like the others.
    #[default]
    AfterFindings,
    /// With each cycle, which then meets a guest that nothing was done to.
    EachCycle,
}

/// The guest.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Guest {
    /// The kernel: a name in the cache or a file. The default is chosen by the command line.
    pub kernel: Option<String>,
    /// Which processor it sees.
    pub cpu: Cpu,
    /// vCPUs, 1 to [`MOST_CPUS`].
    pub cpus: u8,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Added to the kernel's command line.
    pub append: String,
    /// What reads of a vanished device give.
    pub gone_reads: GoneReads,
    /// Modules of the user's, to be loaded in this order after the kernel's own, but before its virtio-gpio driver: that one
    /// takes every virtio-gpio device that nobody before it does. One that is called as a module of the kernel's takes its
    /// place.
    pub modules: Vec<ModuleFile>,
    /// Files to put into it.
    pub files: Vec<GuestFile>,
}

/// Which processor a guest sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Cpu {
    /// Without XSAVE, AVX, nested virtualisation and performance counters: much the same on every host.
    #[default]
    Plain,
    /// All that KVM supports on this host.
    Host,
}

impl Cpu {
    /// Its name in scenarios and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Host => "host",
        }
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What reads of a vanished device give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GoneReads {
    /// 0: a virtio driver's reset ends at once.
    Zeroes,
    /// All bits set, as on real hardware (PCIe 2.3.2).
    AllOnes,
}

/// How long things may take on an unloaded machine with hardware KVM. The storm multiplies them by the measured slowdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeOuts {
    /// From the start of the vCPUs to the agent's first message.
    pub boot: Duration,
    /// From plugging in (or binding, or rescanning) to the device node.
    pub add: Duration,
    /// From the command to the hammer's threads being at work.
    pub start: Duration,
    /// From asking for a removal to its end.
    pub removal: Duration,
    /// From telling a hammer to end to all of its threads being back.
    pub stop: Duration,
}

impl Default for TimeOuts {
    fn default() -> Self {
        Self {
            boot: Duration::from_secs(30),
            add: Duration::from_secs(5),
            start: Duration::from_secs(5),
            removal: Duration::from_secs(10),
            stop: Duration::from_secs(5),
        }
    }
}

/// A virtio-gpio device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its name in the scenario.
    pub name: String,
    /// The guest driver that it is made for.
    pub driver: Driver,
    /// Its lines.
    pub lines: u16,
    /// What the host does to a line, if anything.
    pub signal: Option<Signal>,
    /// The node that a driver of the user's makes, or a pattern of it. Without one, the device is there when a driver is bound.
    pub node: Option<String>,
}

/// The guest driver that a device is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// The kernel's own.
    GpioVirtio,
    /// Our module, with one of its designs.
    Plugstorm(Design),
    /// One of the user's.
    Other {
        /// The PCI subsystem's vendor: what a virtio driver sees as the device's vendor.
        vendor: u16,
        /// The PCI subsystem's device id.
        subsystem: u16,
    },
}

/// The host toggles one line of a device as long as it is plugged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal {
    /// Which line.
    pub line: u16,
    /// From one rising edge to the next.
    pub period: Duration,
}

/// Threads that work on a device's descriptors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hammer {
    /// Its name in the scenario.
    pub name: String,
    /// Index of its device, if it depends on one.
    pub device: Option<usize>,
    /// What it works on.
    pub work: Work,
    /// How many threads.
    pub threads: u32,
    /// All threads on one descriptor, or each on its own.
    pub sharing: Sharing,
    /// What the threads do, in turn.
    pub operations: Vec<Operation>,
    /// The lines that they do it to.
    pub lines: Vec<u32>,
    /// The edges they want to hear of.
    pub edge: Edge,
    /// Index of the device that lends a line, if an operation borrows one.
    pub from: Option<usize>,
    /// Between two calls of a thread.
    pub pause: Pause,
}

/// A way to take a device away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// The hardware is gone before the driver hears of it.
    Surprise,
    /// The device's name is written to its driver's `unbind` file.
    Unbind,
    /// 1 is written to the PCI device's `remove` file.
    Remove,
}

impl How {
    /// Its name in scenarios.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Surprise => "surprise",
            Self::Unbind => "unbind",
            Self::Remove => "remove",
        }
    }
}

/// One step of a cycle. Devices and hammers by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Plug the device in and wait for its node.
    Add {
        /// Which.
        device: usize,
    },
    /// Start the hammer.
    Start {
        /// Which.
        hammer: usize,
    },
    /// Let it run.
    Pause(Pause),
    /// Take the device away and wait for the guest to finish with it.
    Remove {
        /// Which.
        device: usize,
        /// In which way.
        how: How,
        /// The guest had already forgotten the device (sysfs `remove`): nothing is left for it to unbind.
        forgotten: bool,
    },
    /// Bind the device to its driver again and wait for its node.
    Bind {
        /// Which.
        device: usize,
    },
    /// Let the guest look for the device again and wait for its node.
    Rescan {
        /// Which.
        device: usize,
    },
    /// End the hammer and hear what it did.
    Stop {
        /// Which.
        hammer: usize,
    },
    /// Save the guest where it is, and go on with it in another machine.
    Migrate,
    /// Run a program to its end.
    Run {
        /// Index among the scenario's programs.
        program: usize,
    },
}

/// Reads and checks a scenario file.
///
/// # Errors
/// That it cannot be read; or everything that is wrong with it, each with its place.
pub fn load(path: &Path) -> Result<Scenario, ScenarioError> {
    parse_file(path, &read(path)?)
}

/// The text of a scenario's file.
///
/// # Errors
/// [`ScenarioError::Unreadable`].
pub fn read(path: &Path) -> Result<String, ScenarioError> {
    std::fs::read_to_string(path).map_err(|source| ScenarioError::Unreadable { path: path.to_path_buf(), source })
}

/// Checks what [`read`] gave of a file.
///
/// # Errors
/// Everything that is wrong with it, each with its place.
pub fn parse_file(path: &Path, text: &str) -> Result<Scenario, ScenarioError> {
    let stem = path.file_stem().map_or_else(|| "scenario".to_owned(), |stem| stem.to_string_lossy().into_owned());
    parse(text, &path.display().to_string(), &stem)
}

/// Checks the text of a scenario. `file` is named in errors, `stem` is the scenario's name if it gives none.
///
/// # Errors
/// Everything that is wrong with it, each with its place.
pub fn parse(text: &str, file: &str, stem: &str) -> Result<Scenario, ScenarioError> {
    let table: table::ScenarioTable =
        toml::from_str(text).map_err(|error| Mistakes::new(file, text, vec![of_toml(&error, text, error::FORM)]))?;
    check::check(table, stem).map_err(|mistakes| Mistakes::new(file, text, mistakes).into())
}

#[cfg(test)]
mod tests;
