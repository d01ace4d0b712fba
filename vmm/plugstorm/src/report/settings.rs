//! Runs that differ in nothing but their seed.

use crate::results::{RunResult, Verdict};
use crate::scenario::Design;

use super::Run;

/// What runs have in common of which a rate can be told: a scenario, designs, a kernel, a number of cycles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The scenario's name.
    pub scenario: String,
    /// The designs of its devices, each once.
    pub designs: Vec<Design>,
    /// The kernel, as it was asked for.
    pub kernel: String,
    /// `uname -r`, as the guest said.
    pub release: Option<String>,
    /// Cycles of each run.
    pub cycles: u32,
    /// Its runs, by their place in the report.
    pub runs: Vec<usize>,
    /// Of these, the ones that found something; that found nothing, with complete evidence; that prove nothing, or were ended
    /// before they could.
    pub found: u32,
    /// See [`Self::found`].
    pub clean: u32,
    /// See [`Self::found`].
    pub inconclusive: u32,
}

impl Setting {
    fn of(result: &RunResult) -> Self {
        let mut designs: Vec<Design> = Vec::new();
        for design in result.devices.iter().filter_map(|device| device.design) {
            if !designs.contains(&design) {
                designs.push(design);
            }
        }
        Self {
            scenario: result.scenario.clone(),
            designs,
            kernel: result.guest.kernel.clone(),
            release: result.guest.release.clone(),
            cycles: result.cycles.asked,
            runs: Vec::new(),
            found: 0,
            clean: 0,
            inconclusive: 0,
        }
    }

    /// Apart from what runs it has. A guest that never told its release is of any.
    fn is_like(&self, other: &Self) -> bool {
        let key = |of: &Self| (of.scenario.clone(), of.designs.clone(), of.kernel.clone(), of.cycles);
        key(self) == key(other) && (self.release == other.release || self.release.is_none() || other.release.is_none())
    }

    fn take(&mut self, place: usize, result: &RunResult) {
        self.runs.push(place);
        if self.release.is_none() {
            self.release.clone_from(&result.guest.release);
        }
        let count = match result.verdict {
            Verdict::Found => &mut self.found,
            Verdict::Clean => &mut self.clean,
            Verdict::Inconclusive | Verdict::Interrupted | Verdict::Running => &mut self.inconclusive,
        };
        *count = count.saturating_add(1);
    }

    /// Runs with a verdict: those that a rate can be told of.
    #[must_use]
    pub fn verdicts(&self) -> u32 {
        self.found.saturating_add(self.clean)
    }

    /// `shared-descriptor with stack-token`.
    #[must_use]
    pub fn name(&self) -> String {
        match self.designs.as_slice() {
            [] => self.scenario.clone(),
            designs => {
                let designs: Vec<&str> = designs.iter().copied().map(Design::name).collect();
                format!("{} with {}", self.scenario, designs.join(", "))
            }
        }
    }
}

pub(super) fn of(runs: &[Run]) -> Vec<Setting> {
    let mut settings: Vec<Setting> = Vec::new();
    for (place, run) in runs.iter().enumerate() {
        let new = Setting::of(&run.result);
        let known = settings.iter().position(|known| known.is_like(&new));
        let index = known.unwrap_or_else(|| {
            settings.push(new);
            settings.len() - 1
        });
        if let Some(setting) = settings.get_mut(index) {
            setting.take(place, &run.result);
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn only_runs_that_differ_in_their_seed_are_comparable() {
        let mut other_kernel = sample::clean();
        other_kernel.guest.release = Some("6.1.0".into());
        let mut silent = sample::clean();
        (silent.guest.release, silent.verdict) = (None, Verdict::Inconclusive);
        let mut longer = sample::clean();
        longer.cycles.asked += 1;
        let results = [sample::clean(), other_kernel, silent, longer, sample::hang_and_splat()];
        let settings = of(&sample::runs(results));
        let runs: Vec<&[usize]> = settings.iter().map(|setting| setting.runs.as_slice()).collect();
        assert_eq!(runs, [&[0, 2][..], &[1], &[3], &[4]]);
        assert_eq!((settings[0].clean, settings[0].inconclusive, settings[0].verdicts()), (1, 1, 1));
        assert_eq!(settings[3].name(), "sleeping-reader-own with stack-token");
    }
}
