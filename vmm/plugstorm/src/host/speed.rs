//! What this machine's KVM is worth.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;

use plugstorm_machine::probe::{self, ProbeError};
use serde::Serialize;

/// The speed that time-outs are written for: a processor with VT-x or AMD-V does about a round a clock.
pub const REFERENCE_ROUNDS_PER_SECOND: f64 = 1e9;

/// The same for entries into a guest and exits from it, with its registers set each time: a modest figure for hardware.
pub const REFERENCE_EXITS_PER_SECOND: f64 = 2e5;

/// Below this a stock kernel takes minutes to start. Hardware does some 10⁹ rounds a second even on a busy machine, KVM
/// inside QEMU's software emulation some 10⁸ (measured: 96 to 168 million), an interpreting back end under a million
/// (measured: 0.19 to 0.86 million): the line lies between, five times above the latter.
pub const ENOUGH_ROUNDS_PER_SECOND: f64 = 5e6;

/// Slower than this is of no use anyway.
const MOST_SLOWDOWN: f64 = 100.0;

const DEVICE: &str = "/dev/kvm";

/// What the probe found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HostProbe {
    /// Can it be used?
    pub kvm: KvmState,
    /// Rounds of a two-instruction guest loop in a second, if it ran.
    pub rounds_per_second: Option<f64>,
    /// Entries into a guest and exits from it in a second, if it ran.
    pub exits_per_second: Option<f64>,
    /// How many times slower than a processor with VT-x or AMD-V, 1 to 100: time-outs are multiplied by it. The worse
    /// of loop and exits counts, for guests here do much of both.
    pub slowdown: f64,
}

/// Whether `/dev/kvm` can be used. Its `Display` is one sentence with the way out.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum KvmState {
    /// Yes, at speed.
    Usable,
    /// It runs guests, too slowly to be of use.
    Slow {
        /// Of the loop.
        rounds_per_second: f64,
    },
    /// There is none.
    Missing,
    /// Not for this user.
    Denied {
        /// The group that owns the device, where it has a name.
        group: Option<String>,
    },
    /// It may run guests, but not stock kernels.
    Lacks {
        /// What is missing.
        capability: String,
    },
    /// It opens, or not even that, and runs nothing.
    Closed {
        /// What was tried, and the answer.
        reason: String,
    },
}

impl KvmState {
    /// It runs guests, fast or not.
    #[must_use]
    pub fn runs(&self) -> bool {
        matches!(self, Self::Usable | Self::Slow { .. })
    }
}

impl fmt::Display for KvmState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usable => formatter.write_str("/dev/kvm works, at speed"),
            Self::Slow { rounds_per_second } => write!(
                formatter,
                "/dev/kvm runs guests at {} loop rounds a second, where hardware does some {}: no kernel starts in \
                 useful time",
                count(*rounds_per_second),
                count(REFERENCE_ROUNDS_PER_SECOND)
            ),
            Self::Missing => formatter.write_str(
                "/dev/kvm is not there: switch virtualisation on in the firmware and run `modprobe kvm_intel` or \
                 `modprobe kvm_amd`",
            ),
            Self::Denied { group: Some(group) } => write!(
                formatter,
                "/dev/kvm may not be opened by this user: run `usermod -aG {group} $USER` as root and log in again"
            ),
            Self::Denied { group: None } => formatter
                .write_str("/dev/kvm may not be opened by this user: run as root, or join the group that owns it"),
            Self::Lacks { capability } => {
                write!(formatter, "/dev/kvm lacks {capability}, without which no stock kernel runs")
            }
            Self::Closed { reason } => write!(formatter, "{reason}: this KVM is not one that can be used"),
        }
    }
}

/// A rate short enough for a sentence: `0.45 million`.
fn count(value: f64) -> String {
    let decimals = if value < 1e7 { 2 } else { 0 };
    format!("{:.decimals$} million", value / 1e6)
}

/// Times a guest loop. Takes about 0.1 s, and some two seconds at most.
#[must_use]
pub fn probe() -> HostProbe {
    match probe::loop_speed() {
        Ok(speed) => measured(speed.rounds_per_second, speed.exits_per_second),
        Err(error) => {
            let kvm = match error {
                ProbeError::Missing => KvmState::Missing,
                ProbeError::Denied => KvmState::Denied { group: device_group() },
                ProbeError::Lacks { capability } => KvmState::Lacks { capability: capability.to_owned() },
                other => KvmState::Closed { reason: other.to_string() },
            };
            HostProbe { kvm, rounds_per_second: None, exits_per_second: None, slowdown: MOST_SLOWDOWN }
        }
    }
}

fn measured(rounds_per_second: f64, exits_per_second: f64) -> HostProbe {
    let kvm = if rounds_per_second >= ENOUGH_ROUNDS_PER_SECOND {
        KvmState::Usable
    } else {
        KvmState::Slow { rounds_per_second }
    };
    let slowdown = slowdown(REFERENCE_ROUNDS_PER_SECOND, rounds_per_second)
        .max(slowdown(REFERENCE_EXITS_PER_SECOND, exits_per_second));
    HostProbe { kvm, rounds_per_second: Some(rounds_per_second), exits_per_second: Some(exits_per_second), slowdown }
}

/// How many times slower than the reference. Not a rate: as slow as it may be.
fn slowdown(reference: f64, rate: f64) -> f64 {
    if rate.is_finite() && rate > 0.0 { (reference / rate).clamp(1.0, MOST_SLOWDOWN) } else { MOST_SLOWDOWN }
}

/// The name of the group that owns the device. Read from /etc/group: a static program has no name service.
fn device_group() -> Option<String> {
    let group = fs::metadata(DEVICE).ok()?.gid();
    // Group root would be bad advice.
    if group == 0 { None } else { group_name(&fs::read_to_string("/etc/group").ok()?, group) }
}

/// group(5): `name:password:GID:members`.
fn group_name(groups: &str, group: u32) -> Option<String> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(group)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slowdown_is_within_bounds() {
        for (rate, expected) in [(3e9, 1.0), (1e9, 1.0), (5e8, 2.0), (2.5e7, 40.0), (4.5e5, 100.0), (0.0, 100.0)] {
            assert!((slowdown(REFERENCE_ROUNDS_PER_SECOND, rate) - expected).abs() < 1e-9, "{rate}");
        }
        assert!((slowdown(1e9, f64::NAN) - 100.0).abs() < 1e-9);
    }

    #[test]
    fn the_worse_of_loop_and_exits_counts() {
        assert!((measured(1e9, 1e4).slowdown - 20.0).abs() < 1e-9);
        assert!((measured(2e8, 2e5).slowdown - 5.0).abs() < 1e-9);
    }

    #[test]
    fn the_line_lies_between_an_interpreter_and_an_emulated_svm() {
        assert_eq!(measured(860_000.0, 1e4).kvm, KvmState::Slow { rounds_per_second: 860_000.0 });
        assert_eq!(measured(9e7, 4e3).kvm, KvmState::Usable);
        assert!(measured(450_000.0, 1e4).kvm.to_string().contains("0.45 million"));
    }

    #[test]
    fn groups_are_looked_up_by_number() {
        let groups = "root:x:0:\nkvm:x:106:me,you\nbad\nx:y\n";
        assert_eq!(group_name(groups, 106).as_deref(), Some("kvm"));
        assert_eq!(group_name(groups, 7), None);
    }

    #[test]
    fn every_lack_says_what_to_do() {
        let denied = KvmState::Denied { group: Some("kvm".into()) };
        assert!(denied.to_string().contains("usermod -aG kvm"));
        assert!(KvmState::Missing.to_string().contains("modprobe"));
        let lacks = KvmState::Lacks { capability: "CPUID".into() };
        assert!(lacks.to_string().contains("lacks CPUID") && !lacks.runs());
    }
}
