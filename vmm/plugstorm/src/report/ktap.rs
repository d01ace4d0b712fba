//! KTAP, version 1 (Documentation/dev-tools/ktap.rst): a test for each run, below its setting.

use std::fmt::Write as _;

use super::text::{one_line, shortened};
use super::{Overall, Report, Setting, command};
use crate::results::{RunResult, Verdict};

/// KUnit's own limit of a line is 256; readers of KTAP have none that is told.
const MOST_NOTE_BYTES: usize = 400;

/// A report whose plan is kept.
pub(super) fn render(report: &Report) -> String {
    let settings = report.settings.len();
    let unread = usize::from(!report.unread.is_empty());
    let mut text = format!("KTAP version 1\n1..{}\n", settings + unread);
    for (number, setting) in (1..).zip(&report.settings) {
        // Writing to a string cannot fail.
        let _ = write_setting(&mut text, report, setting, number);
    }
    if unread > 0 {
        let _ = write_unread(&mut text, report, settings + 1);
    }
    text
}

fn write_unread(text: &mut String, report: &Report, number: usize) -> std::fmt::Result {
    for sentence in &report.unread {
        writeln!(text, "# {}", shortened(&one_line(sentence), MOST_NOTE_BYTES))?;
    }
    writeln!(text, "not ok {number} all results can be read")
}

fn write_setting(text: &mut String, report: &Report, setting: &Setting, number: usize) -> std::fmt::Result {
    let name = name(&format!("{} on {}", setting.name(), setting.kernel));
    writeln!(text, "  KTAP version 1\n  # Subtest: {name}\n  1..{}", setting.runs.len())?;
    let (mut failed, mut proven) = (false, false);
    let runs = setting.runs.iter().filter_map(|run| report.runs.get(*run));
    for (place, run) in (1..).zip(runs) {
        let result = &run.result;
        for note in notes(result) {
            writeln!(text, "  # {}", shortened(&note, MOST_NOTE_BYTES))?;
        }
        let (ok, directive) = outcome(result);
        let overall = Overall::of(result);
        failed |= overall == Overall::Found;
        proven |= matches!(overall, Overall::Clean | Overall::Known | Overall::Found);
        let directive = directive.map(|words| format!(" # {words}")).unwrap_or_default();
        writeln!(text, "  {ok} {place} {}{directive}", self::name(&format!("seed {} {}", result.seed, run.name)))?;
    }
    let directive = if proven { "" } else { " # SKIP nothing was proven" };
    writeln!(text, "{} {number} {name}{directive}", if failed { "not ok" } else { "ok" })
}

/// What is said of a run before its result.
fn notes(result: &RunResult) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    for finding in &result.findings {
        let known = finding.known_reason.as_ref().filter(|_| finding.known).map(|why| format!(" (known: {why})"));
        let known = known.unwrap_or_default();
        notes.push(one_line(&format!("{}, cycle {}{known}", finding.title, u64::from(finding.cycle) + 1)));
    }
    if let (true, Some(reason)) = (notes.is_empty(), &result.reason) {
        notes.push(one_line(reason));
    }
    if result.verdict != Verdict::Clean {
        notes.push(one_line(&format!("again: {}", command(result))));
    }
    notes
}

/// The result's words and its directive ("Test case result lines").
fn outcome(result: &RunResult) -> (&'static str, Option<&'static str>) {
    match Overall::of(result) {
        Overall::Clean => ("ok", None),
        Overall::Known => ("not ok", Some("XFAIL all of it is known")),
        Overall::Found => ("not ok", None),
        // A run that proves nothing neither passed nor failed.
        Overall::Inconclusive if result.verdict == Verdict::Running => ("ok", Some("SKIP not ended")),
        Overall::Inconclusive => ("ok", Some("SKIP proves nothing")),
        Overall::Interrupted => ("ok", Some("SKIP interrupted")),
    }
}

/// A test's name ends at a `#`.
fn name(text: &str) -> String {
    shortened(&one_line(text).replace('#', "."), plugstorm_observe::ktap::MAX_NAME_BYTES)
}

#[cfg(test)]
mod tests {
    use plugstorm_observe::ktap::{Event, Outcome, Reader, Test};
    use proptest::prelude::*;

    use super::super::sample;
    use super::*;

    fn read(text: &str) -> (Vec<Test>, plugstorm_observe::ktap::Totals) {
        let (mut reader, mut tests) = (Reader::new(), Vec::new());
        let mut sink = |event| {
            if let Event::Test(test) = event {
                tests.push(test);
            }
        };
        reader.push(text.as_bytes(), &mut sink);
        let totals = reader.finish(&mut sink);
        (tests, totals)
    }

    #[test]
    fn reports() {
        let [one, many] = sample::reports();
        insta::assert_snapshot!(format!("{}\n{}", render(&one), render(&many)));
    }

    #[test]
    fn our_own_reader_reads_it_back() {
        let [_, many] = sample::reports();
        let (tests, totals) = read(&render(&many));
        assert_eq!((totals.missing, totals.unplanned, totals.reports), (0, 0, 1));
        assert_eq!((totals.passed, totals.failed, totals.skipped, totals.failed_as_marked), (1, 2, 1, 1));
        let runs: Vec<_> = tests.iter().filter(|test| !test.is_parent).collect();
        assert_eq!(runs.len(), many.runs.len());
        assert_eq!(runs[0].path[0], "sleeping-reader-own with stack-token on debian-6.12");
        assert_eq!(runs[0].outcome, Outcome::Failed);
        assert!(runs[0].notes[0].starts_with(sample::HANG), "{:?}", runs[0].notes);
    }

    proptest! {
        #[test]
        fn whatever_a_guest_says_the_plan_is_kept(said in "[\\x00-\\x7f\u{85}\u{2028}é]{0,60}") {
            let report = sample::report([sample::hostile(&said), sample::clean()]);
            let (tests, totals) = read(&render(&report));
            prop_assert_eq!((totals.missing, totals.unplanned, totals.reports), (0, 0, 1));
            prop_assert_eq!((tests.len(), totals.passed, totals.failed), (4, 1, 1));
        }
    }
}
