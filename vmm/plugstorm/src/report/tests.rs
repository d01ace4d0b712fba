//! What is missing, and what ended a run, in every format.

use super::*;
use crate::verdict::{EXIT_CLEAN, EXIT_INTERRUPTED, EXIT_MACHINE};

fn known(ended_by: EndedBy) -> RunResult {
    let mut result = sample::found();
    result.ended_by = ended_by;
    for finding in &mut result.findings {
        (finding.known, finding.known_reason) = (true, Some("reported".into()));
    }
    result
}

#[test]
fn a_missing_result_is_no_pass_in_any_format() {
    let mut report = sample::report([sample::clean()]);
    assert_eq!((report.overall(), report.exit_code()), (Overall::Clean, EXIT_CLEAN));
    report.unread.push("a/result.json cannot be read: EOF".into());
    assert_eq!((report.overall(), report.exit_code()), (Overall::Inconclusive, EXIT_MACHINE));
    let render = |format| report.render(format, &plain, "plugstorm").unwrap();
    for (format, words) in [
        (Format::Html, "INCONCLUSIVE"),
        (Format::Markdown, "INCONCLUSIVE: 1 clean; 1 result is missing"),
        (Format::Ktap, "# a/result.json cannot be read: EOF\nnot ok 2 all results can be read\n"),
        (Format::Junit, "<error message=\"a/result.json cannot be read: EOF\""),
        (Format::Github, "::error title=a result is missing::a/result.json cannot be read: EOF\n"),
    ] {
        assert!(render(format).contains(words), "{}", render(format));
    }
    assert!(report.overview().contains("a/result.json cannot be read"), "{}", report.overview());
}

#[test]
fn what_ended_a_run_counts_though_all_that_it_found_is_known() {
    for (ended_by, overall, code) in [
        (EndedBy::Itself, Overall::Known, EXIT_CLEAN),
        (EndedBy::Signal, Overall::Interrupted, EXIT_INTERRUPTED),
        (EndedBy::Machine, Overall::Inconclusive, EXIT_MACHINE),
    ] {
        let report = sample::report([known(ended_by)]);
        assert_eq!((report.overall(), report.exit_code()), (overall, code), "{ended_by:?}");
    }
    let mut more = known(EndedBy::Itself);
    more.findings_left_out = 1;
    assert_eq!(sample::report([more]).overall(), Overall::Found, "nobody knows what else there was");
}

#[test]
fn a_setting_in_which_nothing_was_proven_is_no_pass() {
    let mut killed = sample::clean();
    (killed.verdict, killed.reason) = (Verdict::Running, None);
    let report = sample::report([killed]);
    let render = |format| report.render(format, &plain, "plugstorm").unwrap();
    assert!(render(Format::Ktap).ends_with(" # SKIP nothing was proven\n"), "{}", render(Format::Ktap));
    assert!(render(Format::Junit).contains("errors=\"1\""), "{}", render(Format::Junit));
    assert!(render(Format::Github).starts_with("::warning"), "{}", render(Format::Github));
}
