//! A scenario as it is written: the shape of the TOML file, with the place of everything that can be wrong later.

use plugstorm_wire::{Edge, Operation, Sharing};
use serde::Deserialize;
use toml::Spanned;

use super::own::{FileTable, IoctlTable, ModuleTable};
use super::points::PointTable;
use super::quantity::{Pause, Size, Time};
use super::{Cpu, GoneReads, How, Renew, Until};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ScenarioTable {
    pub(super) name: Option<Spanned<String>>,
    pub(super) about: Option<String>,
    pub(super) seed: Option<u64>,
    pub(super) cycles: Option<Spanned<u64>>,
    pub(super) until: Option<Until>,
    pub(super) renew: Option<Renew>,
    #[serde(default)]
    pub(super) guest: GuestTable,
    #[serde(default)]
    pub(super) time_outs: TimeOutTable,
    #[serde(default)]
    pub(super) device: Vec<DeviceTable>,
    #[serde(default)]
    pub(super) point: Vec<PointTable>,
    #[serde(default)]
    pub(super) hammer: Vec<HammerTable>,
    #[serde(default)]
    pub(super) step: Vec<Spanned<StepTable>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct GuestTable {
    pub(super) kernel: Option<Spanned<String>>,
    pub(super) cpu: Option<Cpu>,
    pub(super) cpus: Option<Spanned<u64>>,
    pub(super) memory: Option<Spanned<Size>>,
    pub(super) append: Option<Spanned<String>>,
    pub(super) gone_reads: Option<GoneReads>,
    #[serde(default)]
    pub(super) modules: Vec<Spanned<ModuleTable>>,
    #[serde(default)]
    pub(super) file: Vec<FileTable>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct TimeOutTable {
    pub(super) boot: Option<Spanned<Time>>,
    pub(super) add: Option<Spanned<Time>>,
    pub(super) start: Option<Spanned<Time>>,
    pub(super) removal: Option<Spanned<Time>>,
    pub(super) stop: Option<Spanned<Time>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct DeviceTable {
    pub(super) name: Spanned<String>,
    pub(super) driver: Spanned<String>,
    pub(super) design: Option<Spanned<String>>,
    pub(super) lines: Option<Spanned<u64>>,
    pub(super) signal: Option<SignalTable>,
    pub(super) vendor: Option<Spanned<u64>>,
    pub(super) subsystem: Option<Spanned<u64>>,
    pub(super) node: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct SignalTable {
    pub(super) line: Spanned<u64>,
    pub(super) period: Spanned<Time>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct HammerTable {
    pub(super) name: Spanned<String>,
    pub(super) device: Option<Spanned<String>>,
    pub(super) threads: Spanned<u64>,
    pub(super) descriptor: Option<Spanned<Sharing>>,
    pub(super) operations: Option<Spanned<Vec<Spanned<Operation>>>>,
    pub(super) lines: Option<Spanned<Vec<Spanned<u64>>>>,
    pub(super) edge: Option<Spanned<Edge>>,
    pub(super) from: Option<Spanned<String>>,
    pub(super) pause: Option<Pause>,
    pub(super) node: Option<Spanned<String>>,
    pub(super) ioctl: Option<Spanned<IoctlTable>>,
    pub(super) bytes: Option<Spanned<u64>>,
    pub(super) program: Option<Spanned<Vec<String>>>,
}

impl HammerTable {
    /// What its threads do, with the places; nothing for one that runs a program.
    pub(super) fn operations(&self) -> &[Spanned<Operation>] {
        self.operations.as_ref().map_or(&[], |operations| operations.get_ref().as_slice())
    }
}

/// A step. One shape for all of them: an enum chosen by `do` would lose the places (serde buffers tagged enums).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct StepTable {
    #[serde(rename = "do")]
    pub(super) what: Spanned<StepKind>,
    pub(super) device: Option<Spanned<String>>,
    pub(super) hammer: Option<Spanned<String>>,
    #[serde(rename = "for")]
    pub(super) pause: Option<Spanned<Pause>>,
    pub(super) how: Option<Spanned<How>>,
    pub(super) program: Option<Spanned<Vec<String>>>,
    pub(super) expect: Option<Spanned<u64>>,
    pub(super) time_out: Option<Spanned<Time>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum StepKind {
    Add,
    Start,
    Pause,
    Remove,
    Bind,
    Rescan,
    Stop,
    Migrate,
    Run,
}

impl StepKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Start => "start",
            Self::Pause => "pause",
            Self::Remove => "remove",
            Self::Bind => "bind",
            Self::Rescan => "rescan",
            Self::Stop => "stop",
            Self::Migrate => "migrate",
            Self::Run => "run",
        }
    }
}
