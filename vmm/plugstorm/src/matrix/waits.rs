//! How often each function of our module waits for a grace period: a cost that no run fails of (defect C is one at each
//! allocation).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::results::RunResult;
use crate::scenario::Design;

/// The module whose functions are counted.
const MODULE: &str = "plugstorm";
/// Functions that are told apart: a guest says who they are.
const MOST_CALLERS: usize = 16;

/// What the guests of one design waited for, all runs together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waits {
    /// The design.
    pub design: Design,
    /// Devices that came.
    pub adds: u64,
    /// Grace periods that ended, by the function that waited.
    pub grace_periods: BTreeMap<String, u64>,
}

impl Waits {
    /// None yet.
    #[must_use]
    pub fn of(design: Design) -> Self {
        Self { design, adds: 0, grace_periods: BTreeMap::new() }
    }

    /// Counts those of a run, too.
    pub fn count(&mut self, result: &RunResult) {
        self.adds = self.adds.saturating_add(result.adds.as_ref().map_or(0, |adds| adds.n));
        for waited in &result.timings.grace_periods {
            let ours = waited.caller.as_ref().filter(|caller| caller.module.as_deref() == Some(MODULE));
            let Some(caller) = ours else { continue };
            if self.grace_periods.len() < MOST_CALLERS || self.grace_periods.contains_key(&caller.name) {
                let times = self.grace_periods.entry(caller.name.clone()).or_default();
                *times = times.saturating_add(waited.summary.n);
            }
        }
    }

    /// In words; none if nobody waited.
    #[must_use]
    pub fn words(&self) -> Option<String> {
        let callers: Vec<String> =
            self.grace_periods.iter().map(|(caller, times)| format!("{times} by {caller}")).collect();
        (!callers.is_empty())
            .then(|| format!("{}: {}, with {} devices that came", self.design.name(), callers.join(", "), self.adds))
    }
}

#[cfg(test)]
mod tests {
    use plugstorm_observe::timing::{GracePeriodMode, GracePeriods, Summary};

    use super::super::tests::result_of;
    use super::*;
    use crate::results::Verdict;

    fn waited(caller: &str, module: Option<&str>) -> GracePeriods {
        let symbol = serde_json::json!({ "name": caller, "module": module });
        GracePeriods {
            caller: Some(serde_json::from_value(symbol).unwrap()),
            mode: GracePeriodMode::Expedited,
            summary: Summary::of(0..3).unwrap(),
        }
    }

    #[test]
    fn those_of_our_module_are_counted_over_all_runs_and_bounded() {
        let mut result = result_of(0, Design::SharedHandle, 1, Verdict::Clean);
        let mut waits = Waits::of(Design::SharedHandle);
        waits.count(&result);
        assert_eq!(waits.words(), None);
        let ours = |caller: &str| waited(caller, Some(MODULE));
        result.timings.grace_periods = vec![ours("one_init"), ours("one_revoke"), waited("cleanup", None)];
        result.adds = Some(ours("x").summary);
        waits.count(&result);
        waits.count(&result);
        let words = "shared-handle: 6 by one_init, 6 by one_revoke, with 6 devices that came";
        assert_eq!(waits.words().as_deref(), Some(words));
        result.timings.grace_periods = (0..100).map(|number| ours(&format!("f{number}"))).collect();
        waits.count(&result);
        assert_eq!(waits.grace_periods.len(), MOST_CALLERS);
    }
}
