//! How many guests a host has room for at a time, and how much they take from each other.

use std::str::FromStr;
use std::thread;

use super::memory;

/// The most guests at a time.
pub const MOST_JOBS: usize = 64;
/// What is left to everything else on this machine.
const SPARE_MIB: u64 = 512;
/// What a guest takes beside its memory: its monitor, and an initramfs.
const MONITOR_MIB: u64 = 64;
/// What a nested machine has beside its guests: for its kernel, twice the initramfs while it loads one, and snapshots.
const NESTED_SPARE_MIB: u64 = 1536;
/// The smallest nested machine.
const NESTED_LEAST_MIB: u64 = 3072;

/// How many guests the user wants at a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Jobs {
    /// As many as the host has room for.
    #[default]
    Auto,
    /// So many, 1 to [`MOST_JOBS`].
    Number(usize),
}

impl FromStr for Jobs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "auto" => Ok(Self::Auto),
            Ok(number) if (1..=MOST_JOBS).contains(&number) => Ok(Self::Number(number)),
            _ => Err(format!("give 1 to {MOST_JOBS}, or auto")),
        }
    }
}

/// What the guest of a run takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// vCPUs.
    pub cpus: u32,
    /// Memory, in MiB.
    pub memory_mib: u64,
}

impl Size {
    /// Of a guest with so many vCPUs and so much memory, in bytes.
    #[must_use]
    pub fn of(cpus: u8, memory_bytes: u64) -> Self {
        Self { cpus: cpus.into(), memory_mib: memory_bytes.div_ceil(1 << 20) }
    }
}

/// Nested machines beside each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nested {
    /// So many.
    pub machines: usize,
    /// Guests at a time, in all of them.
    pub guests: usize,
}

impl Nested {
    /// Guests at a time in one of them, counted from 0.
    #[must_use]
    pub fn at_a_time(self, machine: usize) -> usize {
        let machines = self.machines.max(1);
        (self.guests / machines + usize::from(machine < self.guests % machines)).max(1)
    }
}

/// What a host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// CPUs that this process may use.
    pub cpus: u32,
    /// Memory that can be had without swapping, in MiB, if the system tells.
    pub available_mib: Option<u64>,
}

impl Room {
    /// What this machine has now.
    #[must_use]
    pub fn here() -> Self {
        let cpus = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
            available_mib: memory::available_mib(&std::fs::read_to_string(memory::MEMINFO).unwrap_or_default()),
        }
    }

    /// How many of these runs go at a time on this machine's KVM. Guests of `auto` have a CPU for each vCPU, where one guest
    /// has; of memory that the system does not tell of, nothing is taken for more than one.
    #[must_use]
    pub fn at_a_time(&self, jobs: Jobs, runs: &[Size]) -> usize {
        let most_cpus = runs.iter().map(|run| run.cpus).max().unwrap_or(1).max(1);
        let fit = match jobs {
            Jobs::Number(number) => number,
            Jobs::Auto => self.fit_memory(runs).min(usize::try_from(self.cpus / most_cpus).unwrap_or(usize::MAX)),
        };
        fit.min(MOST_JOBS).min(runs.len()).max(1)
    }

    fn fit_memory(&self, runs: &[Size]) -> usize {
        let left_mib = self.available_mib.unwrap_or(0).saturating_sub(SPARE_MIB);
        usize::try_from(left_mib / guests_mib(runs, 1).max(1)).unwrap_or(usize::MAX)
    }

    /// What to tell of guests that do not fit into the memory, as a sentence.
    #[must_use]
    pub fn shortage(&self, runs: &[Size], at_a_time: usize) -> Option<String> {
        self.lacks(guests_mib(runs, at_a_time).saturating_add(SPARE_MIB), at_a_time)
    }

    /// How these runs are spread over nested machines. Each has one emulated CPU, so `auto` is as many machines as there are
    /// CPUs and memory for, with a guest each.
    #[must_use]
    pub fn nested(&self, jobs: Jobs, runs: &[Size]) -> Nested {
        let cpus = usize::try_from(self.cpus).unwrap_or(usize::MAX);
        let machine_mib = nested_mib(runs, 1);
        let fit = self.available_mib.unwrap_or(0).saturating_sub(SPARE_MIB) / machine_mib;
        let guests = match jobs {
            Jobs::Auto => cpus.min(usize::try_from(fit).unwrap_or(usize::MAX)),
            Jobs::Number(number) => number,
        };
        let guests = guests.min(MOST_JOBS).min(runs.len()).max(1);
        let machines = guests.min(cpus).max(1);
        Nested { machines, guests }
    }

    /// The same of nested machines with them.
    #[must_use]
    pub fn nested_shortage(&self, runs: &[Size], nested: Nested) -> Option<String> {
        let machine_mib = |machine| nested_mib(runs, nested.at_a_time(machine));
        self.lacks((0..nested.machines).map(machine_mib).sum(), nested.guests)
    }

    fn lacks(&self, wanted_mib: u64, at_a_time: usize) -> Option<String> {
        let available_mib = self.available_mib.filter(|available_mib| at_a_time > 1 && *available_mib < wanted_mib)?;
        Some(format!(
            "{at_a_time} guests at a time take up to {wanted_mib} MiB of memory and {available_mib} MiB are available: the \
             system may kill some; take fewer with --jobs"
        ))
    }

    /// How many times slower a guest is beside others than alone: the time that each of its vCPUs gets, with all busy, as
    /// this host's CPUs go round. What a guest takes that has more vCPUs than the host has CPUs is its own, alone or not,
    /// and no part of it.
    #[must_use]
    pub fn crowding(&self, own_cpus: u32, cpus_beside: u32) -> f64 {
        let rounds = |vcpus: u32| (f64::from(vcpus) / f64::from(self.cpus.max(1))).max(1.0);
        rounds(own_cpus.saturating_add(cpus_beside)) / rounds(own_cpus)
    }
}

/// The memory of a nested machine for these runs, guests included, in MiB.
#[must_use]
pub fn nested_mib(runs: &[Size], at_a_time: usize) -> u64 {
    guests_mib(runs, at_a_time).saturating_add(NESTED_SPARE_MIB).max(NESTED_LEAST_MIB)
}

/// vCPUs that may run beside those of a run: of the other runs the largest, as many as go beside it.
#[must_use]
pub fn cpus_beside(runs: &[Size], run: usize, at_a_time: usize) -> u32 {
    let others = runs.iter().enumerate().filter(|(index, _)| *index != run);
    let mut cpus: Vec<u32> = others.map(|(_, other)| other.cpus).collect();
    cpus.sort_unstable_by(|one, other| other.cmp(one));
    cpus.iter().take(at_a_time.saturating_sub(1)).fold(0, |sum, cpus| sum.saturating_add(*cpus))
}

/// What so many of the largest guest take.
fn guests_mib(runs: &[Size], guests: usize) -> u64 {
    let most_mib = runs.iter().map(|run| run.memory_mib).max().unwrap_or(0);
    most_mib.saturating_add(MONITOR_MIB).saturating_mul(guests as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Size = Size { cpus: 2, memory_mib: 512 };

    fn room(cpus: u32, available_mib: u64) -> Room {
        Room { cpus, available_mib: Some(available_mib) }
    }

    #[test]
    fn jobs_are_read() {
        assert_eq!("auto".parse(), Ok(Jobs::Auto));
        assert_eq!("64".parse(), Ok(Jobs::Number(64)));
        for text in ["0", "65", "-1", "", "many"] {
            assert!(text.parse::<Jobs>().is_err(), "{text}");
        }
    }

    #[test]
    fn auto_is_what_fits() {
        let auto = |room: Room, runs: &[Size]| room.at_a_time(Jobs::Auto, runs);
        // By CPUs, by memory (576 MiB a guest, 512 spare), by runs, and never none.
        assert_eq!(auto(room(8, 64_000), &[USUAL; 10]), 4);
        assert_eq!(auto(room(9, 64_000), &[USUAL; 10]), 4);
        assert_eq!(auto(room(64, 512 + 3 * 576), &[USUAL; 10]), 3);
        assert_eq!(auto(room(64, 512 + 3 * 576 - 1), &[USUAL; 10]), 2);
        assert_eq!(auto(room(64, 64_000), &[USUAL; 3]), 3);
        assert_eq!(auto(room(1, 64_000), &[USUAL; 3]), 1);
        assert_eq!(auto(room(64, 100), &[USUAL; 3]), 1);
        assert_eq!(auto(room(1024, 1 << 30), &[USUAL; 1000]), MOST_JOBS);
        assert_eq!(auto(Room { cpus: 64, available_mib: None }, &[USUAL; 3]), 1);
        assert_eq!(auto(room(8, 64_000), &[]), 1);
        // The greatest of each counts, whichever run has it.
        let mixed = [USUAL, Size { cpus: 4, memory_mib: 256 }, Size { cpus: 1, memory_mib: 8192 }];
        assert_eq!(auto(room(8, 64_000), &mixed), 2);
        assert_eq!(auto(room(64, 512 + 8256), &mixed), 1);
    }

    #[test]
    fn a_number_counts_even_if_it_does_not_fit() {
        let small = room(2, 2000);
        assert_eq!(small.at_a_time(Jobs::Number(6), &[USUAL; 10]), 6);
        assert_eq!(small.at_a_time(Jobs::Number(6), &[USUAL; 3]), 3);
        let sentence = small.shortage(&[USUAL; 10], 6).unwrap();
        assert!(sentence.contains("3968 MiB") && sentence.contains("2000 MiB") && sentence.contains("--jobs"));
        assert_eq!(small.shortage(&[USUAL; 10], 2), None);
        // With one there is nothing to take less of.
        assert_eq!(room(2, 100).shortage(&[USUAL], 1), None);
        assert_eq!(Room { cpus: 2, available_mib: None }.shortage(&[USUAL; 9], 9), None);
    }

    #[test]
    fn nested_machines_have_a_cpu_each_and_share_guests_evenly() {
        let nested = |room: Room, jobs, runs: usize| {
            let nested = room.nested(jobs, &vec![USUAL; runs]);
            (0..nested.machines).map(|machine| nested.at_a_time(machine)).collect::<Vec<_>>()
        };
        assert_eq!(nested_mib(&[USUAL], 1), 3072);
        assert_eq!(nested_mib(&[USUAL; 4], 4), 4 * 576 + 1536);
        for (jobs, runs, expected) in [
            (Jobs::Auto, 10, vec![1, 1]),
            (Jobs::Auto, 1, vec![1]),
            (Jobs::Number(1), 10, vec![1]),
            (Jobs::Number(4), 10, vec![2, 2]),
            (Jobs::Number(3), 10, vec![2, 1]),
            (Jobs::Number(4), 2, vec![1, 1]),
        ] {
            assert_eq!(nested(room(2, 20_000), jobs, runs), expected, "{jobs:?}, {runs} runs");
        }
        // No memory for a second one, and none that is known of.
        assert_eq!(nested(room(2, 5000), Jobs::Auto, 10), [1]);
        assert_eq!(nested(Room { cpus: 2, available_mib: None }, Jobs::Auto, 10), [1]);
        let four = Nested { machines: 2, guests: 4 };
        assert_eq!(room(2, 3000).nested_shortage(&[USUAL; 4], Nested { machines: 1, guests: 1 }), None);
        assert!(room(2, 6000).nested_shortage(&[USUAL; 4], four).is_some());
        assert_eq!(room(2, 7000).nested_shortage(&[USUAL; 4], four), None);
    }

    #[test]
    fn the_largest_of_the_others_run_beside() {
        let runs = [1, 16, 4, 2].map(|cpus| Size { cpus, memory_mib: 512 });
        assert_eq!(cpus_beside(&runs, 0, 1), 0);
        assert_eq!(cpus_beside(&runs, 0, 3), 20);
        assert_eq!(cpus_beside(&runs, 1, 3), 6);
        assert_eq!(cpus_beside(&runs, 3, 9), 21);
    }

    #[test]
    fn crowding_is_what_others_take() {
        for (cpus, own, beside, expected) in [
            // Room for all.
            (8, 2, 6, 1.0),
            (8, 2, 0, 1.0),
            (8, 2, 14, 2.0),
            (6, 2, 10, 2.0),
            // One emulated CPU: as many times as there are guests, however many vCPUs each has.
            (1, 2, 2, 2.0),
            (1, 2, 6, 4.0),
            (1, 1, 3, 4.0),
            // Alone it had less than a CPU for each vCPU already.
            (2, 4, 4, 2.0),
            (2, 4, 0, 1.0),
            // A small guest beside a large one.
            (4, 1, 16, 4.25),
            (0, 1, 1, 2.0),
        ] {
            let crowding = room(cpus, 0).crowding(own, beside);
            assert!((crowding - expected).abs() < 1e-9, "{own} beside {beside} on {cpus}: {crowding}");
        }
    }
}
