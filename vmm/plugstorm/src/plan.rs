//! What a storm will do, decided by one seed before anything runs.
//!
//! A plan is pure: it knows nothing of clocks or guests. Each cycle draws from streams of its own, so cycle `k` is the same
//! whatever happened before it, and can be run alone; and each step draws from a stream of its own, so that a step added
//! to a scenario leaves the others' choices alone.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::scenario::{How, Pause, Scenario, Step};

/// A scenario with a seed.
#[derive(Debug, Clone)]
pub struct Plan {
    seed: u64,
    steps: Vec<Step>,
    cycles: u32,
}

/// A step with everything decided. Devices and hammers by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlannedStep {
    /// Plug the device in.
    Add {
        /// Which.
        device: usize,
    },
    /// Start the hammer.
    Start {
        /// Which.
        hammer: usize,
        /// Decides what its threads do when.
        seed: u64,
    },
    /// Wait.
    Pause(Duration),
    /// Take the device away.
    Remove {
        /// Which.
        device: usize,
        /// In which way.
        how: How,
        /// Nothing is left for the guest to unbind (see [`Step::Remove`]).
        forgotten: bool,
    },
    /// Bind the device to its driver again.
    Bind {
        /// Which.
        device: usize,
    },
    /// Let the guest look for the device again.
    Rescan {
        /// Which.
        device: usize,
    },
    /// End the hammer.
    Stop {
        /// Which.
        hammer: usize,
    },
    /// Save the guest where it is, and go on with it in another machine.
    Migrate,
    /// Run a program to its end.
    Run {
        /// Which.
        program: usize,
    },
}

impl Plan {
    /// The plan of a scenario. `seed` takes the place of the scenario's own.
    #[must_use]
    pub fn new(scenario: &Scenario, seed: u64) -> Self {
        Self { seed, steps: scenario.steps.clone(), cycles: scenario.cycles }
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// How many cycles there are.
    #[must_use]
    pub fn cycles(&self) -> u32 {
        self.cycles
    }

    /// The steps of a cycle, counted from 0.
    #[must_use]
    pub fn cycle(&self, cycle: u32) -> Vec<PlannedStep> {
        self.steps.iter().zip(0u32..).map(|(step, index)| self.decide(*step, cycle, index)).collect()
    }

    fn decide(&self, step: Step, cycle: u32, index: u32) -> PlannedStep {
        match step {
            Step::Add { device } => PlannedStep::Add { device },
            Step::Start { hammer } => PlannedStep::Start { hammer, seed: self.stream(cycle, index).random() },
            Step::Pause(Pause { least, greatest }) => {
                let ns = self.stream(cycle, index).random_range(nanoseconds(least)..=nanoseconds(greatest));
                PlannedStep::Pause(Duration::from_nanos(ns))
            }
            Step::Remove { device, how, forgotten } => PlannedStep::Remove { device, how, forgotten },
            Step::Bind { device } => PlannedStep::Bind { device },
            Step::Rescan { device } => PlannedStep::Rescan { device },
            Step::Stop { hammer } => PlannedStep::Stop { hammer },
            Step::Migrate => PlannedStep::Migrate,
            Step::Run { program } => PlannedStep::Run { program },
        }
    }

    /// ChaCha's streams are independent of each other; cycle and step name one.
    fn stream(&self, cycle: u32, index: u32) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(u64::from(cycle) << 32 | u64::from(index));
        rng
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plan(seed: u64, steps: Vec<Step>) -> Plan {
        Plan { seed, steps, cycles: 10 }
    }

    fn pause(least_us: u64, more_us: u64) -> Step {
        let least = Duration::from_micros(least_us);
        Step::Pause(Pause { least, greatest: least + Duration::from_micros(more_us) })
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..1000u64, 0..1000u64).prop_map(|(least, more)| pause(least, more)),
            (0..4usize).prop_map(|hammer| Step::Start { hammer }),
            (0..4usize).prop_map(|device| Step::Add { device }),
        ]
    }

    proptest! {
        #[test]
        fn same_seed_same_plan(seed: u64, cycle: u32, steps in proptest::collection::vec(any_step(), 0..12)) {
            prop_assert_eq!(plan(seed, steps.clone()).cycle(cycle), plan(seed, steps).cycle(cycle));
        }

        #[test]
        fn pauses_keep_their_bounds(seed: u64, cycle: u32, least in 0..1000u64, more in 0..1000u64) {
            let planned = plan(seed, vec![pause(least, more)]).cycle(cycle);
            let [PlannedStep::Pause(pause)] = planned[..] else { return Err(TestCaseError::fail("no pause")) };
            prop_assert!((least..=least + more).contains(&u64::try_from(pause.as_micros()).unwrap()));
        }

        #[test]
        fn a_step_more_leaves_the_others_alone(seed: u64, cycle: u32, steps in proptest::collection::vec(any_step(), 1..8)) {
            let short = plan(seed, steps.clone()).cycle(cycle);
            let mut longer = steps;
            longer.push(pause(0, 1000));
            prop_assert_eq!(&plan(seed, longer).cycle(cycle)[..short.len()], &short[..]);
        }
    }

    #[test]
    fn seeds_and_cycles_differ() {
        let steps = vec![Step::Start { hammer: 0 }, Step::Start { hammer: 0 }, pause(0, 1_000_000)];
        let mut all: Vec<_> = (0..50).flat_map(|cycle| plan(1, steps.clone()).cycle(cycle)).collect();
        all.extend((0..50).flat_map(|cycle| plan(2, steps.clone()).cycle(cycle)));
        let distinct: std::collections::HashSet<String> = all.iter().map(|step| format!("{step:?}")).collect();
        assert_eq!(distinct.len(), all.len());
    }
}
