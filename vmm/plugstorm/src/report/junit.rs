//! JUnit XML: a suite for each setting, a test case for each run.
//!
//! Of what XML 1.0 has no character for, [`visible`] leaves nothing (2.2).

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report as Document, SerializeError, TestCase, TestCaseStatus, TestSuite};

use super::stacks::{self, Annotate};
use super::text::{one_line, shortened, visible};
use super::{Overall, Report, Run, Setting, command, processors};
use crate::results::{Finding, RunResult, Verdict};

/// What a test case says of itself, in bytes: servers that collect such files keep all of it in a database.
const MOST_OUTPUT_BYTES: usize = 64 << 10;

pub(super) fn render(report: &Report, annotate: &Annotate<'_>) -> Result<String, SerializeError> {
    let mut document = Document::new("plugstorm");
    for setting in &report.settings {
        document.add_test_suite(suite(report, setting, annotate));
    }
    if !report.unread.is_empty() {
        document.add_test_suite(unread(report));
    }
    document.to_string()
}

fn suite(report: &Report, setting: &Setting, annotate: &Annotate<'_>) -> TestSuite {
    let mut suite = TestSuite::new(one_line(&setting.name()));
    suite.add_property(("kernel", one_line(&setting.kernel).as_str()));
    if let Some(release) = &setting.release {
        suite.add_property(("release", one_line(release).as_str()));
    }
    for run in setting.runs.iter().filter_map(|run| report.runs.get(*run)) {
        suite.add_test_case(case(setting, run, annotate));
    }
    suite
}

/// What is missing is an error: nobody is to think that all runs passed.
fn unread(report: &Report) -> TestSuite {
    let mut suite = TestSuite::new("results");
    for (number, sentence) in (1..).zip(&report.unread) {
        let mut status = error("unread");
        status.set_message(shortened(&one_line(sentence), MOST_OUTPUT_BYTES));
        suite.add_test_case(TestCase::new(format!("missing result {number}"), status));
    }
    suite
}

fn error(kind: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
    status.set_type(kind);
    status
}

fn case(setting: &Setting, run: &Run, annotate: &Annotate<'_>) -> TestCase {
    let result = &run.result;
    let mut case = TestCase::new(one_line(&format!("seed {} ({})", result.seed, run.name)), status(result, annotate));
    case.set_classname(one_line(&format!("plugstorm.{}", setting.name())));
    case.set_time(Duration::from_nanos(result.duration_ns));
    case.add_property(("seed", result.seed.to_string().as_str()));
    case.add_property(("again", one_line(&command(result)).as_str()));
    if let Some(first) = result.findings.first() {
        case.set_system_out(shortened(&visible(&first.console.join("\n")), MOST_OUTPUT_BYTES));
    }
    case
}

fn status(result: &RunResult, annotate: &Annotate<'_>) -> TestCaseStatus {
    let unsaid = match result.verdict {
        Verdict::Running => "the run has not ended, or was killed",
        _ => "the result does not say why",
    };
    let reason = || one_line(result.reason.as_deref().unwrap_or(unsaid));
    match Overall::of(result) {
        Overall::Clean => TestCaseStatus::success(),
        // Not a success: nobody is to think that there was nothing.
        Overall::Known => {
            let mut status = TestCaseStatus::skipped();
            let reasons = result.findings.iter().map(|finding| {
                format!("{}: {}", finding.title, finding.known_reason.as_deref().unwrap_or("no reason was given"))
            });
            status.set_message(format!("known: {}", one_line(&reasons.collect::<Vec<_>>().join("; "))));
            status
        }
        Overall::Found => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(reason());
            status.set_type(result.findings.first().map_or("found", |finding| finding.kind.name()));
            let told: Vec<String> = result.findings.iter().map(|finding| told(result, finding, annotate)).collect();
            let told = format!("{}\nagain: {}\n", told.join("\n"), command(result));
            status.set_description(shortened(&visible(&told), MOST_OUTPUT_BYTES));
            status
        }
        Overall::Inconclusive => {
            let mut status = error("inconclusive");
            status.set_message(reason());
            status
        }
        Overall::Interrupted => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(reason());
            status
        }
    }
}

fn told(result: &RunResult, finding: &Finding, annotate: &Annotate<'_>) -> String {
    let mut text = format!("{}\n{}\n", finding.title, finding.explanation);
    if finding.known {
        text.push_str(&format!("known: {}\n", finding.known_reason.as_deref().unwrap_or_default()));
    }
    if let Some(said) = processors::paragraph(finding) {
        text.push_str(&format!("{said}\n"));
    }
    for stack in stacks::beside_report(finding) {
        let lines = stack.lines(result, annotate);
        text.push_str(&format!("\n{}: {}\n", stack.role, stack.heading(&lines)));
        for line in lines {
            let place = line.place.map(|place| format!("  {place}")).unwrap_or_default();
            let inlined = if line.inlined { " (inlined)" } else { "" };
            text.push_str(&format!("  {}{inlined}{place}\n", line.frame));
        }
    }
    if let Some(splat) = &finding.splat {
        text.push('\n');
        text.push_str(splat);
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{plain, sample};
    use super::*;

    #[test]
    fn reports() {
        let [_, many] = sample::reports();
        insta::assert_snapshot!(render(&many, &plain).unwrap());
    }

    #[test]
    fn its_own_reader_reads_it_back() {
        let [_, many] = sample::reports();
        let read = Document::deserialize_from_str(&render(&many, &plain).unwrap()).unwrap();
        let told: Vec<_> = read.test_suites.iter().map(|suite| (suite.tests, suite.failures, suite.errors)).collect();
        assert_eq!(told, [(2, 2, 0), (2, 0, 1), (1, 0, 0)]);
    }

    proptest! {
        #[test]
        fn whatever_a_guest_says_it_is_xml(said in "\\PC{0,20}[\\x00-\\x7f\u{85}\u{fffe}é]{0,60}") {
            let text = render(&sample::report([sample::hostile(&said), sample::clean()]), &plain).unwrap();
            let is_allowed = |letter: char| {
                matches!(letter, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
            };
            prop_assert!(text.chars().all(is_allowed));
            let read = Document::deserialize_from_str(&text).unwrap();
            prop_assert_eq!(read.test_suites.iter().map(|suite| suite.tests).sum::<usize>(), 2);
        }
    }
}
