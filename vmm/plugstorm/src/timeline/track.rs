//! The rows of a trace: who or what something happened to.

/// What a mark says beside its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// Words.
    Text(String),
    /// A number.
    Number(u64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

/// The arguments of a mark.
pub(super) type Arguments = Vec<(&'static str, Value)>;

/// Something to draw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    /// When, in nanoseconds since the run's start.
    pub(super) at_ns: u64,
    pub(super) track: Track,
    pub(super) shape: Shape,
    pub(super) arguments: Arguments,
    /// Marks with the same number follow from one another.
    pub(super) flow: Option<u64>,
}

/// The form of a mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// A slice of this name begins.
    Begin(String),
    /// The innermost slice of the track ends.
    End,
    /// Something happens.
    Instant(String),
}

/// Rows of the guest that belong together, from top to bottom. The host's have no group: they are what a reader meets first, and
/// Perfetto's UI shows a group closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Group {
    Tasks,
    GracePeriods,
    Cpus,
    Hammers,
    Agent,
}

impl Group {
    pub(super) const ALL: [Self; 5] = [Self::Tasks, Self::GracePeriods, Self::Cpus, Self::Hammers, Self::Agent];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tasks => "guest: kernel's tasks",
            Self::GracePeriods => "guest: SRCU grace periods",
            Self::Cpus => "guest: vCPUs",
            Self::Hammers => "guest: hammers",
            Self::Agent => "guest: what it says",
        }
    }

    /// For people who look at the track's details.
    pub(super) fn description(self) -> &'static str {
        match self {
            Self::Tasks => "Functions of the guest's kernel that were traced, by the task that was inside",
            Self::GracePeriods => "Waits for the readers of an SRCU domain, by the function that waited",
            Self::Cpus => {
                "Events of the guest's trace on the vCPU that they happened on, and when all vCPUs stood still"
            }
            Self::Hammers => "From all threads of a hammer at work to its report",
            Self::Agent => "Uevents, and words of the agent",
        }
    }

    /// Its place below the run: after all rows of the host.
    pub(super) fn rank(self) -> u64 {
        FIRST_GROUP + self as u64
    }
}

/// The host's rows that are no slot's come first, then two for each slot, then the guest's groups.
const FIRST_SLOT: u64 = 3;
const FIRST_GROUP: u64 = FIRST_SLOT + 2 * (1 << 8);

/// A row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Track {
    /// The run: all others are below it.
    Run,
    /// Cycles and steps.
    Storm,
    /// Guests, one after the other.
    Guests,
    /// Findings and the kernel's reports.
    Findings,
    /// A slot, from 0.
    Slot(u8),
    /// The removals of its device.
    Removals(u8),
    /// A vCPU, from 0.
    Cpu(u32),
    /// Tasks of one name, and the how manieth of those that are inside something at once.
    Task { name: String, lane: usize },
    /// Waits of one function, and the how manieth of those that wait at once.
    GracePeriods { caller: String, lane: usize },
    /// A hammer.
    Hammer(String),
    /// Uevents.
    Uevents,
    /// The agent.
    Agent,
}

impl Track {
    /// The group that it is in; none of a row directly below the run, and of the run's.
    pub(super) fn group(&self) -> Option<Group> {
        match self {
            Self::Run | Self::Storm | Self::Guests | Self::Findings | Self::Slot(_) | Self::Removals(_) => None,
            Self::Cpu(_) => Some(Group::Cpus),
            Self::Task { .. } => Some(Group::Tasks),
            Self::GracePeriods { .. } => Some(Group::GracePeriods),
            Self::Hammer(_) => Some(Group::Hammers),
            Self::Uevents | Self::Agent => Some(Group::Agent),
        }
    }

    /// Its place within the group.
    pub(super) fn rank(&self) -> u64 {
        match self {
            Self::Findings | Self::Agent => 1,
            Self::Guests => 2,
            Self::Slot(slot) => FIRST_SLOT + u64::from(*slot) * 2,
            Self::Removals(slot) => FIRST_SLOT + u64::from(*slot) * 2 + 1,
            Self::Cpu(cpu) => u64::from(*cpu),
            Self::Run
            | Self::Storm
            | Self::Task { .. }
            | Self::GracePeriods { .. }
            | Self::Hammer(_)
            | Self::Uevents => 0,
        }
    }

    /// Its name. `devices`: names of those in slots 0 and up.
    pub(super) fn name(&self, devices: &[String]) -> String {
        let slot = |slot: u8, what: &str| {
            // As the guest's kernel counts them: `pciehp: Slot(1)`.
            let number = u32::from(slot) + 1;
            match devices.get(usize::from(slot)) {
                Some(device) => format!("Slot({number}): {device}{what}"),
                None => format!("Slot({number}){what}"),
            }
        };
        match self {
            Self::Run => "plugstorm".to_owned(),
            Self::Storm => "cycles and steps".to_owned(),
            Self::Guests => "guests".to_owned(),
            Self::Findings => "findings".to_owned(),
            Self::Slot(index) => slot(*index, ""),
            Self::Removals(index) => slot(*index, ", removals"),
            Self::Cpu(cpu) => format!("vCPU {cpu}"),
            // Rows of one name are shown as one.
            Self::GracePeriods { caller, .. } => caller.clone(),
            Self::Task { name, .. } | Self::Hammer(name) => name.clone(),
            Self::Uevents => "uevents".to_owned(),
            Self::Agent => "agent".to_owned(),
        }
    }
}
