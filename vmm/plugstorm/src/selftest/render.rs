//! The self-tests' results for a person.

use std::fmt::Write as _;

use super::judge::{CaseReport, Report, Verdict};
use plugstorm_observe::ktap::Outcome;

/// Notes shown of a case that is not as expected.
const MOST_NOTES: usize = 6;

/// Verdict, a line for each design, and what is not as expected.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write(report, &mut text);
    text
}

fn write(report: &Report, text: &mut String) -> std::fmt::Result {
    let verdict = match report.verdict {
        Verdict::AsExpected => "AS EXPECTED",
        Verdict::Unexpected => "UNEXPECTED",
        Verdict::Inconclusive => "INCONCLUSIVE",
        Verdict::Interrupted => "INTERRUPTED",
    };
    let reason = report.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    let release = report.release.as_ref().map_or_else(String::new, |release| format!(" ({release})"));
    let seconds = std::time::Duration::from_nanos(report.duration_ns).as_secs_f64();
    writeln!(text, "{verdict}  self-tests on {}{release}, {seconds:.1} s{reason}", report.kernel)?;
    if report.designs.is_empty() {
        return Ok(());
    }
    writeln!(text, "\n  {:<18} passed  failed  skipped  missing  known defects", "design")?;
    for design in &report.designs {
        let line = format!(
            "  {:<18} {:>6}  {:>6}  {:>7}  {:>7}  {}",
            design.design,
            design.passed,
            design.failed,
            design.skipped,
            design.missing,
            defects(&design.cases)
        );
        writeln!(text, "{}", line.trim_end())?;
    }
    for design in &report.designs {
        for case in design.cases.iter().filter(|case| !case.expected) {
            writeln!(text, "\nunexpected: {}: {} {}", design.design, case.case, words(case))?;
            for note in case.splats.iter().chain(&case.notes).take(MOST_NOTES) {
                writeln!(text, "  | {note}")?;
            }
        }
    }
    let of_no_case = report.unexpected.iter().filter(|sentence| {
        sentence.starts_with("outside of all cases")
            || sentence.contains(": after its last case")
            || sentence.contains(": its suite ")
    });
    for sentence in of_no_case {
        writeln!(text, "\nunexpected: {sentence}")?;
    }
    Ok(())
}

fn words(case: &CaseReport) -> &'static str {
    match (case.broke(), case.outcome) {
        (true, Outcome::Passed) => "passed, and the kernel complained",
        (true, _) => "failed",
        (false, Outcome::Skipped) => "was skipped",
        (false, _) => "passed",
    }
}

/// `A two_threads_and_revoke; J sleeping_reader; (B late_open)`: in brackets what was not seen this time.
fn defects(cases: &[CaseReport]) -> String {
    let mut letters: Vec<&str> = cases.iter().filter_map(|case| case.known).collect();
    letters.sort_unstable();
    letters.dedup();
    let list = |letter: &str, broke: bool| -> Vec<&str> {
        let these = cases.iter().filter(|case| case.known == Some(letter) && case.broke() == broke);
        these.map(|case| case.case.as_str()).collect()
    };
    let mut parts = Vec::new();
    for letter in letters {
        let (seen, unseen) = (list(letter, true), list(letter, false));
        if !seen.is_empty() {
            parts.push(format!("{letter} {}", seen.join(", ")));
        }
        if !unseen.is_empty() {
            parts.push(format!("({letter} {})", unseen.join(", ")));
        }
    }
    parts.join("; ")
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
