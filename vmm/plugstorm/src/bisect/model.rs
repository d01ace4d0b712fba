//! What a bisection is made of, and the shape of `bisect.json`, version 1. Fields may be added within a version; none changes its
//! meaning.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::came::{Counts, Ran, Target, counts};
use super::rate::Plan;

/// The version of [`Bisection`].
pub const VERSION: u32 = 1;

/// What decides whether two bisections are one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`VERSION`].
    pub version: u32,
    /// The version of plugstorm.
    pub plugstorm: String,
    /// The command line, without the program's folder.
    pub command: Vec<String>,
    /// When it was begun, in seconds since 1970.
    pub started_unix_s: u64,
    /// The git repository.
    pub tree: PathBuf,
    /// The scenario's name.
    pub scenario: String,
    /// A digest of its file.
    pub scenario_digest: String,
    /// Cycles of each run.
    pub cycles: u32,
    /// The first seed of each commit.
    pub seed: u64,
    /// What kernels are configured by and patched with, in order.
    pub ingredients: Vec<Ingredient>,
    /// What is looked for, if the user said so: a pattern.
    pub title: Option<String>,
    /// Runs at the bad commit.
    pub runs: u32,
    /// How sure a good commit is to be, 0 to 1.
    pub confidence: f64,
}

/// A fragment of a configuration, or a patch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ingredient {
    /// As it was given.
    pub name: String,
    /// Of what it says; none of a fragment of ours.
    pub digest: Option<String>,
}

impl Header {
    /// May a bisection with this header go on with an earlier one's results?
    ///
    /// # Errors
    /// What is different, as a clause.
    pub fn continues(&self, earlier: &Self) -> Result<(), String> {
        let differs = |what: &str, then: &dyn std::fmt::Display, now: &dyn std::fmt::Display| {
            Err(format!("its {what} was {then}, and now it is {now}"))
        };
        if (self.version, &self.plugstorm) != (earlier.version, &earlier.plugstorm) {
            differs("plugstorm", &earlier.plugstorm, &self.plugstorm)
        } else if self.tree != earlier.tree {
            differs("tree", &earlier.tree.display(), &self.tree.display())
        } else if self.scenario != earlier.scenario {
            differs("scenario", &earlier.scenario, &self.scenario)
        } else if self.scenario_digest != earlier.scenario_digest {
            Err(format!("the file of its scenario `{}` was another one", self.scenario))
        } else if self.cycles != earlier.cycles {
            differs("number of cycles", &earlier.cycles, &self.cycles)
        } else if self.seed != earlier.seed {
            differs("first seed", &earlier.seed, &self.seed)
        } else if self.ingredients != earlier.ingredients {
            Err("its configuration or patches were others".into())
        } else if self.title != earlier.title {
            let words = |title: &Option<String>| title.clone().unwrap_or_else(|| "the first".into());
            differs("finding", &words(&earlier.title), &words(&self.title))
        } else if self.runs != earlier.runs {
            differs("number of runs at the bad commit", &earlier.runs, &self.runs)
        } else if (self.confidence - earlier.confidence).abs() > f64::EPSILON {
            differs("confidence", &earlier.confidence, &self.confidence)
        } else {
            Ok(())
        }
    }
}

/// A commit, as a person knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Its whole name.
    pub id: String,
    /// The first line of its message.
    pub subject: String,
    /// Who wrote it.
    pub author: String,
    /// When that was: `2026-01-31`.
    pub date: String,
}

impl Commit {
    /// The beginning of its name.
    #[must_use]
    pub fn short(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }
}

/// What became of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The finding was seen.
    Bad,
    /// It was not, in as many runs as were needed.
    Good,
    /// It is not known.
    Skipped {
        /// Why.
        reason: String,
    },
}

impl Verdict {
    /// As git has it.
    #[must_use]
    pub fn term(&self) -> &'static str {
        match self {
            Self::Bad => "bad",
            Self::Good => "good",
            Self::Skipped { .. } => "skip",
        }
    }
}

/// A commit that was tried, or is being.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Which.
    pub commit: Commit,
    /// `uname -r` of its kernel, once that was built.
    pub release: Option<String>,
    /// How long its kernel took to build, in seconds.
    pub build_seconds: u64,
    /// How long its runs took, in seconds.
    pub storm_seconds: u64,
    /// Its runs, in the order in which they ended.
    pub runs: Vec<Ran>,
    /// What came of it; none as long as it is being tried.
    pub verdict: Option<Verdict>,
}

impl Step {
    /// A commit that nothing is known of.
    #[must_use]
    pub fn new(commit: Commit) -> Self {
        Self { commit, release: None, build_seconds: 0, storm_seconds: 0, runs: Vec::new(), verdict: None }
    }

    /// What its runs add up to.
    #[must_use]
    pub fn counts(&self, target: Option<&Target>) -> Counts {
        counts(&self.runs, target)
    }
}

/// What it comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The first bad commit.
    First(Commit),
    /// One of these is, which of them could not be told: all but one were skipped.
    Candidates(Vec<Commit>),
}

/// A bisection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bisection {
    /// What decides whether another one is the same.
    #[serde(flatten)]
    pub header: Header,
    /// What is looked for, once that is known.
    pub target: Option<Target>,
    /// What the bad commit has shown.
    pub plan: Option<Plan>,
    /// The bad commit that the user named.
    pub bad: Step,
    /// The good one.
    pub good: Step,
    /// Those between them that were tried, in order.
    pub steps: Vec<Step>,
    /// What it came to, once it did.
    pub outcome: Option<Outcome>,
}

impl Bisection {
    /// One that has not begun.
    #[must_use]
    pub fn new(header: Header, good: Commit, bad: Commit) -> Self {
        let target = header.title.clone().map(Target::Pattern);
        let (bad, good) = (Step::new(bad), Step::new(good));
        Self { header, target, plan: None, bad, good, steps: Vec::new(), outcome: None }
    }

    /// How likely it is that one of the commits that count as good is not, if the finding is no rarer there than at the bad
    /// commit. A commit that counts as bad is: the finding was seen.
    #[must_use]
    pub fn risk(&self) -> f64 {
        let Some(plan) = &self.plan else { return 0.0 };
        let good = std::iter::once(&self.good).chain(&self.steps).filter(|step| step.verdict == Some(Verdict::Good));
        1.0 - good.fold(1.0, |sure, step| sure * (1.0 - plan.risk(step.counts(self.target.as_ref()).without)))
    }
}
