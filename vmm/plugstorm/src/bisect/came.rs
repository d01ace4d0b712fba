//! What a run says of the finding that is looked for.

use serde::{Deserialize, Serialize};

use crate::results::{FindingKind, RunResult, Verdict};
use crate::wildcard;

/// Runs of one commit that may prove nothing. After that it is skipped.
pub const MOST_VAIN: u32 = 3;

/// A run that came to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// Its number at its commit, counted from 1.
    pub run: u32,
    /// Its seed.
    pub seed: u64,
    /// How long it took, in seconds.
    pub seconds: u64,
    /// Cycles that ran to their end.
    pub completed: u32,
    /// Cycles that were asked for.
    pub asked: u32,
    /// What it found, the most telling first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Met>,
    /// Why it proves nothing, if nothing was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nothing: Option<String>,
}

/// Something that a run found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Met {
    /// Stable from run to run.
    pub title: String,
    /// Other titles of the same thing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alt_titles: Vec<String>,
    /// Of which kind.
    pub kind: FindingKind,
    /// In which cycle first, counted from 1.
    pub cycle: u32,
}

impl Ran {
    /// Of a result. None of one that has not ended.
    #[must_use]
    pub fn of(run: u32, result: &RunResult) -> Option<Self> {
        let nothing = match result.verdict {
            Verdict::Running | Verdict::Interrupted => return None,
            Verdict::Clean | Verdict::Found => None,
            Verdict::Inconclusive => {
                Some(result.reason.clone().unwrap_or_else(|| "its result does not say why".to_owned()))
            }
        };
        // A removal that hangs says more than what the kernel says of it: the same order as the verdict's.
        let is_hang = |kind: FindingKind| kind == FindingKind::RemovalStuck;
        let (hangs, others): (Vec<_>, Vec<_>) = result.findings.iter().partition(|finding| is_hang(finding.kind));
        let met = |finding: &crate::results::Finding| Met {
            title: finding.title.clone(),
            alt_titles: finding.alt_titles.clone(),
            kind: finding.kind,
            cycle: finding.cycle.saturating_add(1),
        };
        Some(Self {
            run,
            seed: result.seed,
            seconds: result.duration_ns / 1_000_000_000,
            completed: result.cycles.completed,
            asked: result.cycles.asked,
            findings: hangs.into_iter().chain(others).map(met).collect(),
            nothing,
        })
    }

    /// What it says of what is looked for.
    #[must_use]
    pub fn came(&self, target: &Target) -> Came {
        if let Some(cycle) = self.findings.iter().filter(|met| target.is(met)).map(|met| met.cycle).min() {
            return Came::Hit { cycle };
        }
        match (&self.nothing, self.findings.first()) {
            (Some(reason), _) => Came::Nothing { reason: reason.clone() },
            // What comes first ends a run or a guest: nobody knows what would have come after it.
            (None, Some(other)) if self.completed < self.asked => Came::Nothing {
                reason: format!(
                    "something else came first and ended it after {} of {} cycles: {}",
                    self.completed, self.asked, other.title
                ),
            },
            _ => Came::Without,
        }
    }
}

/// What a run says of what is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    /// It was there.
    Hit {
        /// In which cycle first, counted from 1.
        cycle: u32,
    },
    /// All cycles ran, and it was not there.
    Without,
    /// Neither.
    Nothing {
        /// Why.
        reason: String,
    },
}

/// The finding that is looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Whose title, or an alternative title of which, fits this, in which `*` stands for anything.
    Pattern(String),
    /// Of this kind, and with one of these titles, or an alternative one: what [`crate::results::Finding::is_same`] takes for
    /// the same.
    Same {
        /// Its kind.
        kind: FindingKind,
        /// Its titles.
        titles: Vec<String>,
    },
}

impl Target {
    /// The same as this.
    #[must_use]
    pub fn like(met: &Met) -> Self {
        let titles = std::iter::once(&met.title).chain(&met.alt_titles).cloned().collect();
        Self::Same { kind: met.kind, titles }
    }

    /// Which nothing is.
    #[must_use]
    pub fn nothing() -> Self {
        Self::Same { kind: FindingKind::Splat, titles: Vec::new() }
    }

    /// Is it this?
    #[must_use]
    pub fn is(&self, met: &Met) -> bool {
        std::iter::once(&met.title).chain(&met.alt_titles).any(|title| match self {
            Self::Pattern(pattern) => wildcard::fits(pattern, title),
            Self::Same { kind, titles } => *kind == met.kind && titles.contains(title),
        })
    }

    /// What to call it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Pattern(pattern) => pattern,
            Self::Same { titles, .. } => titles.first().map_or("", String::as_str),
        }
    }
}

/// What the runs of a commit add up to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// In which cycles the runs met it that did.
    pub hit_cycles: Vec<u32>,
    /// Runs without it.
    pub without: u32,
    /// Runs that prove nothing.
    pub nothing: u32,
    /// Why the last of these does not.
    pub reason: Option<String>,
}

impl Counts {
    /// Runs that met it.
    #[must_use]
    pub fn hits(&self) -> u32 {
        u32::try_from(self.hit_cycles.len()).unwrap_or(u32::MAX)
    }

    /// Runs that prove something.
    #[must_use]
    pub fn verdicts(&self) -> u32 {
        self.hits().saturating_add(self.without)
    }
}

/// Counts. As long as nothing is known of what is looked for, all runs are without it.
#[must_use]
pub fn counts(runs: &[Ran], target: Option<&Target>) -> Counts {
    let nothing = Target::nothing();
    let target = target.unwrap_or(&nothing);
    let mut counts = Counts::default();
    for ran in runs {
        match ran.came(target) {
            Came::Hit { cycle } => counts.hit_cycles.push(cycle),
            Came::Without => counts.without += 1,
            Came::Nothing { reason } => {
                counts.nothing += 1;
                counts.reason = Some(reason);
            }
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met(titles: &[&str], cycle: u32) -> Met {
        let (title, alt_titles) = titles.split_first().unwrap();
        let alt_titles = alt_titles.iter().map(|&title| title.into()).collect();
        Met { title: (*title).into(), alt_titles, kind: FindingKind::Splat, cycle }
    }

    fn ran(completed: u32, findings: Vec<Met>) -> Ran {
        Ran { run: 1, seed: 1, seconds: 9, completed, asked: 3, findings, nothing: None }
    }

    #[test]
    fn one_title_of_both_is_enough() {
        let target = Target::like(&met(&["a hangs", "INFO: task hung"], 1));
        assert!(target.is(&met(&["b", "a hangs"], 1)) && target.is(&met(&["INFO: task hung"], 1)));
        assert!(!target.is(&met(&["a hangs here"], 1)));
        assert!(!target.is(&Met { kind: FindingKind::GuestDied, ..met(&["a hangs"], 1) }));
        assert_eq!(target.name(), "a hangs");
        assert!(Target::Pattern("a hangs*".into()).is(&met(&["x", "a hangs here"], 1)));
    }

    #[test]
    fn a_run_says_yes_no_or_nothing() {
        let target = Target::Pattern("wanted*".into());
        assert_eq!(ran(1, vec![met(&["other"], 1), met(&["wanted"], 2)]).came(&target), Came::Hit { cycle: 2 });
        assert_eq!(ran(3, vec![]).came(&target), Came::Without);
        // Something else was found and every cycle ran all the same.
        assert_eq!(ran(3, vec![met(&["other"], 1)]).came(&target), Came::Without);
        let Came::Nothing { reason } = ran(0, vec![met(&["other"], 1)]).came(&target) else {
            panic!("it proves nothing")
        };
        assert_eq!(reason, "something else came first and ended it after 0 of 3 cycles: other");
        let vain = Ran { nothing: Some("the guest never started".into()), ..ran(0, vec![]) };
        assert_eq!(vain.came(&target), Came::Nothing { reason: "the guest never started".into() });
    }

    #[test]
    fn runs_add_up() {
        let runs = [ran(3, vec![]), ran(0, vec![met(&["w"], 2)]), ran(0, vec![met(&["x"], 1)]), ran(3, vec![])];
        let counted = counts(&runs, Some(&Target::Pattern("w".into())));
        assert_eq!((counted.hits(), counted.without, counted.nothing, counted.verdicts()), (1, 2, 1, 3));
        assert_eq!(counted.hit_cycles, [2]);
        assert_eq!(counts(&runs, None).nothing, 2);
    }
}
