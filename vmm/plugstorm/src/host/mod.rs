//! Which host a storm runs on: this machine's KVM, or a nested machine that has one.

pub mod holdings;
pub mod memory;
pub mod nested;
pub mod room;
mod speed;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use speed::{
    ENOUGH_ROUNDS_PER_SECOND, HostProbe, KvmState, REFERENCE_EXITS_PER_SECOND, REFERENCE_ROUNDS_PER_SECOND, probe,
};

/// What the user wants to run on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum HostChoice {
    /// KVM if it is there and fast enough, else nested.
    #[default]
    Auto,
    /// This machine's /dev/kvm, or nothing.
    Kvm,
    /// A machine under QEMU's software emulation, whose kernel offers a complete KVM.
    Nested,
}

impl HostChoice {
    /// As it is written on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Kvm => "kvm",
            Self::Nested => "nested",
        }
    }
}

impl fmt::Display for HostChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for HostChoice {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        [Self::Auto, Self::Kvm, Self::Nested]
            .into_iter()
            .find(|choice| choice.as_str() == text)
            .ok_or_else(|| HostError::UnknownChoice(text.to_owned()))
    }
}

/// Why there is no host to run on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// Not one of the three.
    #[error("{0:?} is no host: choose auto, kvm or nested")]
    UnknownChoice(String),
    /// KVM was asked for and cannot be used.
    #[error("{reason}; take `--host nested`, which needs no KVM, or `--host auto`, which chooses")]
    KvmUnusable {
        /// What is wrong with it, and how to mend it.
        reason: String,
    },
    /// KVM cannot be used, and nested cannot either.
    #[error(
        "this machine's KVM cannot be used ({reason}), and a nested machine needs \
         qemu-system-x86_64: run `apt-get install {package}`"
    )]
    NoHost {
        /// What is wrong with KVM.
        reason: String,
        /// The package that has QEMU.
        package: &'static str,
    },
}

/// Where to run.
#[derive(Debug, Clone, PartialEq)]
pub enum Chosen {
    /// Here; with what the probe measured.
    Kvm(HostProbe),
    /// In a nested machine; with what the probe said against KVM, nothing if nested was asked for.
    Nested {
        /// One sentence.
        why: Option<String>,
    },
}

/// Decides where to run. Probes KVM unless `nested` is asked for: about 0.1 s.
///
/// # Errors
/// [`HostError`] with the way out.
pub fn choose(choice: HostChoice) -> Result<Chosen, HostError> {
    if choice == HostChoice::Nested {
        return Ok(Chosen::Nested { why: None });
    }
    decide(choice, probe(), nested::emulator().is_some(), nested::is_inside())
}

fn decide(choice: HostChoice, probe: HostProbe, has_emulator: bool, is_inside: bool) -> Result<Chosen, HostError> {
    // A nested machine on a busy host may be slow for a while; there is no other place to go to from there.
    let is_enough = probe.kvm == KvmState::Usable || (is_inside && probe.kvm.runs());
    match choice {
        HostChoice::Nested => Ok(Chosen::Nested { why: None }),
        HostChoice::Kvm | HostChoice::Auto if is_enough => Ok(Chosen::Kvm(probe)),
        HostChoice::Kvm => Err(HostError::KvmUnusable { reason: probe.kvm.to_string() }),
        HostChoice::Auto if has_emulator => Ok(Chosen::Nested { why: Some(probe.kvm.to_string()) }),
        HostChoice::Auto => Err(HostError::NoHost { reason: probe.kvm.to_string(), package: nested::EMULATOR_PACKAGE }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probed(kvm: KvmState) -> HostProbe {
        HostProbe { kvm, rounds_per_second: None, exits_per_second: None, slowdown: 1.0 }
    }

    #[test]
    fn choices_are_read_and_written_alike() {
        for choice in [HostChoice::Auto, HostChoice::Kvm, HostChoice::Nested] {
            assert_eq!(choice.to_string().parse::<HostChoice>().unwrap(), choice);
        }
        assert!("qemu".parse::<HostChoice>().is_err());
    }

    #[test]
    fn auto_takes_kvm_only_if_it_is_fast() {
        let slow = KvmState::Slow { rounds_per_second: 450_000.0 };
        let auto = |kvm: &KvmState, emulator| decide(HostChoice::Auto, probed(kvm.clone()), emulator, false);
        assert!(matches!(auto(&KvmState::Usable, false), Ok(Chosen::Kvm(_))));
        assert!(matches!(auto(&slow, true), Ok(Chosen::Nested { why: Some(_) })));
        let lacks = KvmState::Lacks { capability: "CPUID".into() };
        assert!(matches!(auto(&lacks, true), Ok(Chosen::Nested { why: Some(why) }) if why.contains("lacks CPUID")));
        let error = auto(&slow, false).unwrap_err().to_string();
        assert!(error.contains("apt-get install qemu-system-x86"), "{error}");
    }

    #[test]
    fn a_slow_kvm_is_taken_only_inside_a_nested_machine() {
        let slow = KvmState::Slow { rounds_per_second: 450_000.0 };
        let kvm = |state: &KvmState, is_inside| decide(HostChoice::Kvm, probed(state.clone()), true, is_inside);
        assert!(matches!(kvm(&KvmState::Usable, false), Ok(Chosen::Kvm(_))));
        assert!(matches!(kvm(&slow, true), Ok(Chosen::Kvm(_))));
        for (state, is_inside) in [(&slow, false), (&KvmState::Missing, false), (&KvmState::Missing, true)] {
            let error = kvm(state, is_inside).unwrap_err().to_string();
            assert!(error.contains("--host nested") && error.contains("--host auto"), "{error}");
        }
    }
}
