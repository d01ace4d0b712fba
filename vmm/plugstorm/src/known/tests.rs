use miette::{GraphicalReportHandler, GraphicalTheme};

use super::*;
use crate::report::sample;

const TODAY: Date = Date { year: 2026, month: 11, day: 23 };

fn parse(text: &str) -> KnownFindings {
    KnownFindings::parse(text, "known.toml", TODAY).unwrap()
}

fn entry(lines: &str) -> KnownFindings {
    parse(&format!("[[known]]\nreason = \"it is reported\"\nexpires = 2026-11-23\n{lines}\n"))
}

/// Which of the findings of a run with a hang and a splat are known.
fn marked(known: &KnownFindings) -> Vec<bool> {
    let mut result = sample::hang_and_splat();
    known.mark(&mut result);
    result.findings.iter().map(|finding| finding.known).collect()
}

#[test]
fn titles_scenarios_and_kernels_are_met() {
    for (lines, expected) in [
        ("title = \"removal never ends: *\"", [true, false]),
        ("title = \"removal never ends\"", [false, false]),
        ("regex = 'use-after-free (Read|Write) in plugstorm_'", [false, true]),
        ("regex = '^removal.*|^KASAN'", [true, true]),
        // An alternative title is a title.
        ("title = \"bad-access in plugstorm_stay\"", [false, true]),
        ("title = \"removal*\"\nscenario = \"sleeping-*\"", [true, false]),
        ("title = \"removal*\"\nscenario = \"timer\"", [false, false]),
        ("title = \"removal*\"\nkernel = \"debian-6.12\"", [true, false]),
        ("title = \"removal*\"\nkernel = \"6.12.117*\"", [true, false]),
        ("title = \"removal*\"\nkernel = \"debian-6.1\"", [false, false]),
    ] {
        assert_eq!(marked(&entry(lines)), expected, "{lines}");
    }
}

#[test]
fn an_entry_counts_until_the_end_of_its_day() {
    let of = |day: u8| {
        let text = format!("[[known]]\ntitle = \"removal*\"\nreason = \"r\"\nexpires = 2026-11-{day}\n");
        marked(&parse(&text))
    };
    assert_eq!((of(22), of(23), of(24)), (vec![false, false], vec![true, false], vec![true, false]));
}

#[test]
fn a_run_is_accepted_only_if_all_of_it_is_known() {
    let mut result = sample::hang_and_splat();
    assert!(!accepted(&result));
    entry("regex = '^removal'").mark(&mut result);
    assert!(!accepted(&result));
    entry("regex = '^removal|^KASAN'").mark(&mut result);
    assert!(accepted(&result));
    assert_eq!(result.verdict, Verdict::Found, "it stays what it is");
    assert_eq!(result.findings[0].known_reason.as_deref(), Some("it is reported"));
    // What was known by another file is not, if this one does not say so.
    KnownFindings::none().mark(&mut result);
    assert!(!accepted(&result) && result.findings[0].known_reason.is_none());
    assert!(!accepted(&sample::clean()));
}

#[test]
fn what_became_of_each_entry_is_told() {
    let known = parse(
        "[[known]]\ntitle = \"removal*\"\nreason = \"reported\"\nurl = \"https://example.org/1\"\nexpires = 2027-01-01\n\
         [[known]]\ntitle = \"KASAN: *\"\nreason = \"r\"\nexpires = 2026-01-01\n\
         [[known]]\ntitle = \"WARNING in x\"\nreason = \"rare\"\nexpires = 2027-01-01\n\
         [[known]]\ntitle = \"WARNING in y\"\nreason = \"r\"\nexpires = 2026-01-01\n",
    );
    let runs = [sample::hang_and_splat(), sample::clean()];
    insta::assert_snapshot!(known.account(&runs.each_ref()).join("\n"));
}

#[test]
fn mistakes_are_shown_at_their_place() {
    let good = "reason = \"r\"\nexpires = 2027-01-01\n";
    let mut shown = String::new();
    for text in [
        format!("[[known]]\ntitel = \"x\"\n{good}"),
        format!("[[know]]\ntitle = \"x\"\n{good}"),
        "[[known]]\ntitle = \"x\"\nexpires = 2027-01-01\n".to_owned(),
        "[[known]]\ntitle = \"x\"\nreason = \"r\"\n".to_owned(),
        "[[known]]\ntitle = \"x\"\nreason = \"r\"\nexpires = \"soon\"\n".to_owned(),
        "[[known]]\ntitle = \"x\"\nreason = \"r\"\nexpires = 2027-01-01T12:00:00Z\n".to_owned(),
        "[[known]]\ntitle = \"x\"\nreason = \" \"\nexpires = 2027-01-01\n".to_owned(),
        format!("[[known]]\n{good}"),
        format!("[[known]]\ntitle = \"x\"\nregex = \"y\"\n{good}"),
        format!("[[known]]\ntitle = \"*\"\n{good}[[known]]\nregex = \"a(\"\n{good}[[known]]\nregex = \"x*\"\n{good}"),
        "[[known]\n".to_owned(),
    ] {
        let error = KnownFindings::parse(&text, "known.toml", TODAY).unwrap_err();
        let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()).with_width(100);
        handler.render_report(&mut shown, &error).unwrap();
        shown.push('\n');
    }
    insta::assert_snapshot!(shown);
}
