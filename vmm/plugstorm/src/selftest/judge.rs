//! What was heard, beside what is known.

use plugstorm_observe::ktap::{Outcome, Test};
use serde::Serialize;

use super::known::known;
use super::listen::{End, Heard};

/// What the names of our suites begin with.
const PREFIX: &str = "plugstorm_";
/// The version of [`Report`] as it is written.
pub const VERSION: u32 = 1;

/// What it comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every case of every design passed, but for those that had to fail or might.
    AsExpected,
    /// A case failed that had no reason to, or passed that has to fail.
    Unexpected,
    /// Not everything was seen.
    Inconclusive,
    /// A signal ended it.
    Interrupted,
}

/// `selftest.json`.
#[derive(Debug, Serialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// What it comes to.
    pub verdict: Verdict,
    /// Why, where it is not as expected: a sentence.
    pub reason: Option<String>,
    /// The kernel as the user named it.
    pub kernel: String,
    /// `uname -r` of the guest.
    pub release: Option<String>,
    /// How long the guest ran, in nanoseconds.
    pub duration_ns: u64,
    /// The designs, in the order of their suites.
    pub designs: Vec<DesignReport>,
    /// What is not as expected: a sentence each.
    pub unexpected: Vec<String>,
}

/// A design's suite.
#[derive(Debug, Serialize)]
pub struct DesignReport {
    /// Its name.
    pub design: String,
    /// Cases that passed, with no complaint of the kernel's.
    pub passed: u64,
    /// Cases that did not.
    pub failed: u64,
    /// Cases that do not apply.
    pub skipped: u64,
    /// Cases without a result.
    pub missing: u64,
    /// The cases.
    pub cases: Vec<CaseReport>,
}

/// A case of a suite.
#[derive(Debug, Serialize)]
pub struct CaseReport {
    /// Its name.
    pub case: String,
    /// How the kernel says it ended.
    pub outcome: Outcome,
    /// The kernel's reports of itself while it ran, by title: with one, it did not pass.
    pub splats: Vec<String>,
    /// The defect that it may show, by its letter in `revocable.md`, or `control`.
    pub known: Option<&'static str>,
    /// Whether this is what is known of it.
    pub expected: bool,
    /// What the kernel said of it.
    pub notes: Vec<String>,
    /// Why it was skipped, for one.
    pub remark: Option<String>,
}

impl CaseReport {
    /// It did not pass.
    #[must_use]
    pub fn broke(&self) -> bool {
        !self.splats.is_empty() || matches!(self.outcome, Outcome::Failed | Outcome::FailedAsMarked)
    }
}

/// Judges what was heard. `wanted`: the names of the designs that there have to be results of; others are left out.
#[must_use]
pub fn judge(heard: Heard, kernel: &str, wanted: &[&str]) -> Report {
    let mut unexpected = Vec::new();
    let mut designs = suites(&heard, wanted, &mut unexpected);
    for (path, tests) in &heard.missing {
        let suite = path.first().and_then(|suite| design_of(suite));
        if let Some(design) = suite.and_then(|name| designs.iter_mut().find(|design| design.design == name)) {
            design.missing = design.missing.saturating_add(*tests);
        }
    }
    let gap = gap(&heard, &designs, wanted);
    let (verdict, reason) = match (&heard.end, unexpected.first(), gap) {
        (_, Some(first), gap) => {
            let more = unexpected.len().saturating_sub(1);
            let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
            let then = gap.map_or_else(String::new, |gap| format!("; besides, {gap}"));
            (Verdict::Unexpected, Some(format!("{first}{more}{then}")))
        }
        (End::Interrupted, None, _) => (Verdict::Interrupted, Some("a signal ended it".to_owned())),
        (_, None, Some(gap)) => (Verdict::Inconclusive, Some(gap)),
        (_, None, None) => (Verdict::AsExpected, None),
    };
    Report {
        version: VERSION,
        verdict,
        reason,
        kernel: kernel.to_owned(),
        release: heard.release,
        duration_ns: heard.duration_ns,
        designs,
        unexpected,
    }
}

/// `plugstorm_shared_handle` is the suite of shared-handle.
fn design_of(suite: &str) -> Option<String> {
    suite.strip_prefix(PREFIX).map(|name| name.replace('_', "-"))
}

fn suites(heard: &Heard, wanted: &[&str], unexpected: &mut Vec<String>) -> Vec<DesignReport> {
    let mut designs: Vec<DesignReport> = Vec::new();
    let mut told = vec![false; heard.splats.len()];
    for test in &heard.tests {
        let (Some(suite), Some(case)) = (test.path.first(), test.path.last()) else { continue };
        let Some(name) = design_of(suite) else { continue };
        let splats = splats_of(heard, test, &mut told);
        if !wanted.contains(&name.as_str()) {
            continue;
        }
        if test.path.len() == 1 {
            // The suite's own result follows from its cases', or it has none.
            if !test.is_parent {
                unexpected.push(format!("{name}: its suite could not be started ({:?})", test.outcome));
            }
            unexpected.extend(splats.into_iter().map(|title| format!("{name}: after its last case: {title}")));
            continue;
        }
        let at = designs.iter().position(|design| design.design == name).unwrap_or_else(|| {
            let cases = Vec::new();
            designs.push(DesignReport { design: name.clone(), passed: 0, failed: 0, skipped: 0, missing: 0, cases });
            designs.len() - 1
        });
        if let Some(design) = designs.get_mut(at) {
            design.take(test, case, splats, unexpected);
        }
    }
    let stray = heard.splats.iter().zip(&told).filter(|(_, told)| !**told);
    unexpected.extend(stray.map(|(splat, _)| format!("outside of all cases: {}", splat.title)));
    designs
}

/// The reports of the kernel's that began while a test ran.
fn splats_of(heard: &Heard, test: &Test, told: &mut [bool]) -> Vec<String> {
    let mut titles = Vec::new();
    for (splat, told) in heard.splats.iter().zip(told) {
        if !*told && (test.first_line..=test.line).contains(&splat.start_line) {
            *told = true;
            titles.push(splat.title.clone());
        }
    }
    titles
}

impl DesignReport {
    fn take(&mut self, test: &Test, case: &str, splats: Vec<String>, unexpected: &mut Vec<String>) {
        let known = known(&self.design, case);
        let mut report = CaseReport {
            case: case.to_owned(),
            outcome: test.outcome,
            splats,
            known: known.map(|known| known.defect),
            expected: true,
            notes: test.notes.clone(),
            remark: test.remark.clone(),
        };
        let broke = report.broke();
        let count = match (broke, test.outcome) {
            (true, _) => &mut self.failed,
            (false, Outcome::Skipped) => &mut self.skipped,
            (false, _) => &mut self.passed,
        };
        *count = count.saturating_add(1);
        let design = &self.design;
        let sentence = match (broke, known) {
            (true, None) => {
                let why = report.splats.first().or(report.notes.first());
                let why = why.map_or_else(String::new, |why| format!(": {why}"));
                Some(format!("{design}: {case} failed{why}"))
            }
            (false, Some(known)) if known.certain => {
                Some(format!("{design}: {case} did not fail, which has to show defect {}", known.defect))
            }
            _ => None,
        };
        report.expected = sentence.is_none();
        unexpected.extend(sentence);
        self.cases.push(report);
    }
}

/// What was not seen of what had to be.
fn gap(heard: &Heard, designs: &[DesignReport], wanted: &[&str]) -> Option<String> {
    if let End::Cut(sentence) = &heard.end {
        return Some(sentence.clone());
    }
    let failed = heard.modules.iter().find_map(|module| module.error.as_ref().map(|error| (&module.file, error)));
    if let Some((file, error)) = failed.filter(|_| designs.is_empty()) {
        return Some(format!("the guest could not load {file}: {error}"));
    }
    if let Some(reason) = &heard.totals.bailed_out {
        return Some(format!("the tests ended themselves: {reason}"));
    }
    if heard.left_out > 0 {
        return Some(format!(
            "there were {} more tests or reports of the kernel's than are kept: what those said is not known",
            heard.left_out
        ));
    }
    if heard.lost_bytes > 0 {
        return Some(format!("{} bytes of the console came too fast and were lost", heard.lost_bytes));
    }
    if designs.is_empty() {
        return Some(
            "no suite of ours ran: is KUnit switched off there (kunit.enable=0, CONFIG_KUNIT_DEFAULT_ENABLED)?".into(),
        );
    }
    let lacking = designs.iter().find(|design| design.missing > 0);
    if let Some(design) = lacking {
        return Some(format!("{} results of {} are missing", design.missing, design.design));
    }
    let absent = wanted.iter().find(|name| !designs.iter().any(|design| design.design == **name))?;
    Some(format!("there is no result of {absent}: was our module built from this plugstorm's sources?"))
}

#[cfg(test)]
#[path = "judge_tests.rs"]
pub(super) mod tests;
