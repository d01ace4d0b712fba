//! What this host can do, and the command that mends each lack.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};
use serde::Serialize;

use crate::host::{self, HostProbe, KvmState, nested};
use crate::{cache, initramfs, kernels};

/// A nested machine of the usual size, and some room for the host.
const NESTED_MEMORY_MIB: u64 = 4096;
/// A guest or two of the usual size.
const KVM_MEMORY_MIB: u64 = 1024;
/// What fetching a kernel takes while it is unpacked.
const FETCH_DISK_MIB: u64 = 2048;
/// What a run leaves behind at most.
const RUN_DISK_MIB: u64 = 256;

/// Whether something is as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It is.
    Good,
    /// It is not, and storms run all the same.
    Lacking,
    /// It is not, and something cannot be done for it.
    Missing,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// How it is.
    pub state: State,
    /// What was found, in one sentence.
    pub found: String,
    /// The command that mends it, where there is one.
    pub remedy: Option<String>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The version of this layout.
    pub version: u32,
    /// Where `--host auto` would run storms now: `kvm`, `nested`, or nothing.
    pub host: Option<&'static str>,
    /// What the probe of KVM measured.
    pub probe: HostProbe,
    /// Everything looked at.
    pub checks: Vec<Check>,
}

impl Report {
    /// Storms can run here now: there is a host, and nothing is missing.
    #[must_use]
    pub fn can_run(&self) -> bool {
        self.host.is_some() && self.checks.iter().all(|check| check.state != State::Missing)
    }

    /// For a terminal: a line each, and below it the command that mends it.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let width = self.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
        for check in &self.checks {
            let mark = match check.state {
                State::Good => "ok     ",
                State::Lacking => "lacking",
                State::Missing => "MISSING",
            };
            // Writing to a string does not fail.
            let _ = writeln!(text, "{mark}  {:width$}  {}", check.name, check.found);
            if let Some(remedy) = &check.remedy {
                let _ = writeln!(text, "         {:width$}  -> {remedy}", "");
            }
        }
        let _ = match self.host.filter(|_| self.can_run()) {
            Some("kvm") => writeln!(text, "Storms run here on this machine's KVM."),
            Some(_) => writeln!(text, "Storms run here in a nested machine (QEMU's software emulation)."),
            None => writeln!(text, "Storms cannot run here yet: see what is missing above."),
        };
        text
    }
}

/// Looks at everything. Takes about 0.2 s.
#[must_use]
pub fn examine() -> Report {
    let probe = host::probe();
    let emulator = nested::emulator();
    let host = match probe.kvm {
        KvmState::Usable => Some("kvm"),
        _ => emulator.as_ref().map(|_| "nested"),
    };
    let root = cache::root();
    let listing = kernels::list().unwrap_or_default();
    let mut checks = vec![kvm(&probe, host)];
    checks.push(match &emulator {
        Some(path) => good("qemu", format!("{} can run nested machines", path.display())),
        None => Check {
            name: "qemu",
            state: if host == Some("kvm") { State::Lacking } else { State::Missing },
            found: "qemu-system-x86_64 is not installed: no nested machines".into(),
            remedy: Some(format!("apt-get install {}", nested::EMULATOR_PACKAGE)),
        },
    });
    checks.push(memory(&fs::read_to_string(host::memory::MEMINFO).unwrap_or_default(), host));
    checks.push(agent());
    checks.push(kernel(&listing));
    let for_fetching = [
        programs(
            "packages",
            "fetching kernels",
            &[("apt-get", "apt"), ("apt-cache", "apt"), ("dpkg-deb", "dpkg"), ("tar", "tar"), ("xz", "xz-utils")],
        ),
        programs("compiler", "building modules", &[("gcc", "gcc"), ("make", "make")]),
        cache_folder(&root),
    ];
    checks.extend(for_fetching.map(|check| if listing.is_empty() { check } else { not_needed(check) }));
    checks.push(disk(&root, if listing.is_empty() { FETCH_DISK_MIB } else { RUN_DISK_MIB }));
    Report { version: 1, host, probe, checks }
}

/// Where a kernel has been fetched, storms run without what fetches one.
fn not_needed(check: Check) -> Check {
    let state = if check.state == State::Missing { State::Lacking } else { check.state };
    Check { state, ..check }
}

fn good(name: &'static str, found: String) -> Check {
    Check { name, state: State::Good, found, remedy: None }
}

fn kvm(probe: &HostProbe, host: Option<&str>) -> Check {
    let state = match (&probe.kvm, host) {
        (KvmState::Usable, _) => State::Good,
        (_, Some(_)) => State::Lacking,
        (_, None) => State::Missing,
    };
    let mut found = probe.kvm.to_string();
    if let (KvmState::Usable, Some(rounds), Some(exits)) = (&probe.kvm, probe.rounds_per_second, probe.exits_per_second)
    {
        found = format!(
            "/dev/kvm runs {:.0} million loop rounds and {:.0} thousand exits a second; \
             time-outs are multiplied by {:.1}",
            rounds / 1e6,
            exits / 1e3,
            probe.slowdown
        );
    }
    let remedy = match &probe.kvm {
        KvmState::Usable => None,
        KvmState::Missing => Some("modprobe kvm_intel || modprobe kvm_amd".into()),
        KvmState::Denied { group } => {
            Some(format!("usermod -aG {} $USER, and log in again", group.as_deref().unwrap_or("kvm")))
        }
        // Nothing this machine's user can do: --host auto goes to a nested one.
        _ => host.is_some().then(|| "--host nested, which --host auto takes by itself".into()),
    };
    Check { name: "kvm", state, found, remedy }
}

fn agent() -> Check {
    match initramfs::agent() {
        Ok(path) => good("agent", format!("{} goes into guests", path.display())),
        Err(error) => Check {
            name: "agent",
            state: State::Missing,
            found: error.to_string(),
            remedy: Some("cargo build --release -p plugstorm-agent".into()),
        },
    }
}

fn kernel(listing: &[kernels::KernelListing]) -> Check {
    if listing.is_empty() {
        return Check {
            name: "kernel",
            state: State::Missing,
            found: "no kernel has been fetched".into(),
            remedy: Some(format!("plugstorm kernel fetch {}", kernels::HOST_KERNEL)),
        };
    }
    let names: Vec<&str> = listing.iter().map(|kernel| kernel.name.as_str()).collect();
    good("kernel", format!("in the cache: {}", names.join(", ")))
}

/// Programs that something needs, each with its package.
fn programs(name: &'static str, purpose: &str, wanted: &[(&str, &str)]) -> Check {
    let missing: Vec<_> = wanted.iter().filter(|(program, _)| crate::programs::find(program).is_none()).collect();
    let names = |list: &[&(&str, &str)]| list.iter().map(|(program, _)| *program).collect::<Vec<_>>().join(", ");
    if missing.is_empty() {
        return good(name, format!("{} are there, for {purpose}", names(&wanted.iter().collect::<Vec<_>>())));
    }
    let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    Check {
        name,
        state: State::Missing,
        found: format!("{purpose} needs {}", names(&missing)),
        remedy: Some(format!("apt-get install {}", packages.join(" "))),
    }
}

fn memory(meminfo: &str, host: Option<&str>) -> Check {
    let wanted = if host == Some("kvm") { KVM_MEMORY_MIB } else { NESTED_MEMORY_MIB };
    match host::memory::available_mib(meminfo) {
        Some(available) if available >= wanted => {
            good("memory", format!("{available} MiB are free, {wanted} are wanted"))
        }
        Some(available) => Check {
            name: "memory",
            state: State::Lacking,
            found: format!("{available} MiB are free, {wanted} are wanted: guests may be killed"),
            remedy: Some("end other programs, or give guests less memory in the scenario".into()),
        },
        None => Check {
            name: "memory",
            state: State::Lacking,
            found: "/proc/meminfo does not say how much memory is free".into(),
            remedy: None,
        },
    }
}

fn cache_folder(root: &Path) -> Check {
    // It need not be there yet: then what counts is whether it can be made.
    let existing = root.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    if access(existing, AccessFlags::W_OK).is_ok() && existing.is_dir() {
        return good("cache", format!("{} can be written", root.display()));
    }
    Check {
        name: "cache",
        state: State::Missing,
        found: format!("{} cannot be written: no kernels can be fetched", root.display()),
        remedy: Some("export PLUGSTORM_CACHE=FOLDER, one that can be written".into()),
    }
}

fn disk(root: &Path, wanted_mib: u64) -> Check {
    let existing = root.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    match statvfs(existing) {
        Ok(status) => {
            let free_mib = status.blocks_available().saturating_mul(status.fragment_size()) >> 20;
            if free_mib >= wanted_mib {
                return good("disk", format!("{free_mib} MiB are free for the cache, {wanted_mib} are wanted"));
            }
            Check {
                name: "disk",
                state: State::Missing,
                found: format!("{free_mib} MiB are free for the cache, {wanted_mib} are wanted"),
                remedy: Some("free some, or export PLUGSTORM_CACHE=FOLDER on a larger disk".into()),
            }
        }
        Err(error) => Check {
            name: "disk",
            state: State::Lacking,
            found: format!("how much is free at {} cannot be told: {error}", existing.display()),
            remedy: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_mib() {
        let meminfo = "MemTotal:  10 kB\nMemAvailable:   20971520 kB\n";
        assert_eq!(memory(meminfo, None).state, State::Good);
        assert_eq!(memory("MemAvailable: 2097152 kB\n", Some("nested")).state, State::Lacking);
        assert_eq!(memory("MemAvailable: 2097152 kB\n", Some("kvm")).state, State::Good);
        assert_eq!(memory("", None).state, State::Lacking);
    }

    #[test]
    fn a_missing_program_has_its_package_in_the_remedy() {
        let check = programs("x", "doing x", &[("no-such-a", "pack"), ("no-such-b", "pack"), ("sh", "dash")]);
        assert_eq!(check.state, State::Missing);
        assert_eq!(check.remedy.as_deref(), Some("apt-get install pack"));
        assert_eq!(programs("x", "doing x", &[("sh", "dash")]).state, State::Good);
    }

    #[test]
    fn nothing_runs_while_something_is_missing() {
        let check = |state| Check { name: "x", state, found: String::new(), remedy: None };
        let report = |state| Report { version: 1, host: Some("kvm"), probe: host::probe(), checks: vec![check(state)] };
        assert!(!report(State::Missing).can_run());
        assert!(report(State::Missing).text().contains("cannot run here yet"));
        assert!(report(State::Lacking).can_run());
        assert_eq!(not_needed(check(State::Missing)).state, State::Lacking);
        assert_eq!(not_needed(check(State::Good)).state, State::Good);
    }

    #[test]
    fn a_cache_that_cannot_be_made_is_missing() {
        assert_eq!(cache_folder(Path::new("/dev/null/cache")).state, State::Missing);
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(cache_folder(&folder.path().join("not/yet")).state, State::Good);
        assert_eq!(disk(&folder.path().join("not/yet"), u64::MAX).state, State::Missing);
    }

    #[test]
    fn every_lack_comes_with_a_remedy_in_the_text() {
        let probe =
            HostProbe { kvm: KvmState::Missing, rounds_per_second: None, exits_per_second: None, slowdown: 100.0 };
        let checks = vec![kvm(&probe, None), kernel(&[])];
        assert!(checks.iter().all(|check| check.state == State::Missing && check.remedy.is_some()));
        let text = Report { version: 1, host: None, probe, checks }.text();
        assert!(text.contains("-> modprobe kvm_intel"), "{text}");
        assert!(text.contains("cannot run here yet"), "{text}");
    }

    #[test]
    fn a_kvm_that_lacks_something_is_told_with_the_way_around_it() {
        let lacks = KvmState::Lacks { capability: "CPUID".into() };
        let probe = HostProbe { kvm: lacks, rounds_per_second: None, exits_per_second: None, slowdown: 100.0 };
        let check = kvm(&probe, Some("nested"));
        assert_eq!(check.state, State::Lacking);
        assert!(check.found.contains("lacks CPUID"), "{}", check.found);
        assert!(check.remedy.is_some_and(|remedy| remedy.contains("--host nested")));
    }

    #[test]
    fn this_machine_is_examined() {
        let report = examine();
        assert_eq!(report.checks.len(), 9);
        assert!(serde_json::to_string(&report).unwrap().contains("\"version\":1"));
    }
}
