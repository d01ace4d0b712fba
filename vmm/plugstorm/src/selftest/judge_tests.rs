use plugstorm_observe::ktap::{Event, Reader};
use plugstorm_observe::splat::detect;
use plugstorm_wire::ModuleOutcome;

use super::*;

/// What a guest said on its console.
fn heard(console: &str) -> Heard {
    let (mut tests, mut missing, mut reader) = (Vec::new(), Vec::new(), Reader::new());
    let mut take = |event| match event {
        Event::Test(test) => tests.push(test),
        Event::Missing { path, tests } => missing.push((path, tests)),
        Event::Line(_) => {}
    };
    reader.push(console.as_bytes(), &mut take);
    let totals = reader.finish(&mut take);
    Heard {
        end: End::Told,
        tests,
        missing,
        totals,
        splats: detect(console.as_bytes()),
        release: Some("6.12.1-x".into()),
        modules: Vec::new(),
        lost_bytes: 0,
        left_out: 0,
        duration_ns: 12_300_000_000,
    }
}

/// A report with a suite for each design; its cases as they are to be printed, without numbers. `|` begins another line.
pub(in crate::selftest) fn console(suites: &[(&str, &[&str])]) -> String {
    let mut text =
        format!("[ 0.000000] Linux version 6.12\n[ 1.000000] KTAP version 1\n[ 1.000000] 1..{}\n", suites.len());
    let mut line = |line: &str| text.push_str(&format!("[    1.000000] {line}\n"));
    for (number, (design, cases)) in suites.iter().enumerate() {
        let suite = format!("plugstorm_{}", design.replace('-', "_"));
        line("    KTAP version 1");
        line(&format!("    # Subtest: {suite}"));
        line(&format!("    1..{}", cases.len()));
        for (at, case) in cases.iter().enumerate() {
            for part in case.split('|') {
                match (part.strip_prefix("ok "), part.strip_prefix("not ok ")) {
                    (Some(name), _) => line(&format!("    ok {} {name}", at + 1)),
                    (_, Some(name)) => line(&format!("    not ok {} {name}", at + 1)),
                    _ if !part.is_empty() => line(part),
                    _ => {}
                }
            }
        }
        let ok = cases.iter().all(|case| !case.contains("not ok"));
        line(&format!("{} {} {suite}", if ok { "ok" } else { "not ok" }, number + 1));
    }
    text
}

const RWSEM: (&str, &[&str]) = ("rwsem", &["ok access", "ok nested # SKIP a lock", "not ok sleeping_reader"]);

const WARNING: &str = "------------[ cut here ]------------|refcount_t: underflow; use-after-free.|WARNING: CPU: 0 PID: 9 at \
                       lib/refcount.c:28 refcount_warn_saturate+0xbe/0x110|RIP: 0010:refcount_warn_saturate+0xbe/0x110|Call Trace:| \
                       <TASK>| get_put_revoke+0x2a/0x60 [plugstorm]| </TASK>|---[ end trace 0000000000000000 ]---";

pub(in crate::selftest) fn judged(suites: &[(&str, &[&str])], wanted: &[&str]) -> Report {
    judge(heard(&console(suites)), "mine", wanted)
}

#[test]
fn known_defects_are_as_expected() {
    let unprotected: (&str, &[&str]) = ("unprotected", &["ok access", "not ok revocation", "not ok double_revoke"]);
    let report = judged(&[unprotected, RWSEM], &["unprotected", "rwsem"]);
    assert_eq!((report.verdict, report.reason), (Verdict::AsExpected, None));
    let counts: Vec<_> = report.designs.iter().map(|it| (it.passed, it.failed, it.skipped, it.missing)).collect();
    assert_eq!(counts, [(1, 2, 0, 0), (1, 1, 1, 0)]);
    assert_eq!(report.designs[1].cases[2].known, Some("J"));
}

#[test]
fn a_failure_nobody_knows_is_unexpected() {
    let report = judged(&[("rwsem", &["    # access: EXPECTATION FAILED at x.c:1|not ok access"])], &["rwsem"]);
    assert_eq!(report.verdict, Verdict::Unexpected);
    assert_eq!(report.reason.as_deref(), Some("rwsem: access failed: access: EXPECTATION FAILED at x.c:1"));
}

#[test]
fn what_has_to_fail_and_does_not_is_unexpected() {
    let report =
        judged(&[("shared-handle", &["ok access", "ok two_threads_and_revoke", "ok late_open"])], &["shared-handle"]);
    assert_eq!(report.verdict, Verdict::Unexpected);
    assert_eq!(report.unexpected, ["shared-handle: two_threads_and_revoke did not fail, which has to show defect A"]);
}

#[test]
fn a_case_with_a_complaint_of_the_kernels_did_not_pass() {
    let quiet = format!("{WARNING}|ok double_revoke");
    let report = judged(&[("get-put", &["ok access", &quiet])], &["get-put"]);
    // Defect I.
    assert_eq!(report.verdict, Verdict::AsExpected, "{:?}", report.reason);
    assert_eq!((report.designs[0].passed, report.designs[0].failed), (1, 1));
    assert_eq!(report.designs[0].cases[1].splats.len(), 1);
    let report = judged(&[("in-flight", &["ok access", &quiet])], &["in-flight"]);
    assert_eq!(report.verdict, Verdict::Unexpected);
    assert!(report.reason.unwrap().starts_with("in-flight: double_revoke failed: "));
}

#[test]
fn a_complaint_outside_of_all_cases_is_told() {
    let mut text = console(&[RWSEM]);
    for line in WARNING.split('|') {
        text.push_str(&format!("[    9.000000] {line}\n"));
    }
    let report = judge(heard(&text), "mine", &["rwsem"]);
    assert_eq!(report.verdict, Verdict::Unexpected);
    assert!(report.reason.unwrap().starts_with("outside of all cases: "), "{:?}", report.unexpected);
}

#[test]
fn what_was_not_seen_proves_nothing() {
    let reason = |change: &dyn Fn(&mut Heard), wanted: &[&str]| {
        let mut heard = heard(&console(&[RWSEM]));
        change(&mut heard);
        let report = judge(heard, "mine", wanted);
        assert_eq!(report.verdict, Verdict::Inconclusive);
        report.reason.unwrap()
    };
    assert!(reason(&|_| {}, &["rwsem", "in-flight"]).contains("no result of in-flight"));
    assert!(reason(&|heard| heard.end = End::Cut("the guest died".into()), &["rwsem"]).contains("the guest died"));
    assert!(reason(&|heard| heard.lost_bytes = 7, &["rwsem"]).contains("7 bytes"));
    assert!(reason(&|heard| heard.left_out = 1, &["rwsem"]).contains("1 more"));
    assert!(reason(&|heard| heard.totals.bailed_out = Some("x".into()), &["rwsem"]).contains("ended themselves: x"));
    let missing = |heard: &mut Heard| heard.missing.push((vec!["plugstorm_rwsem".into()], 3));
    assert!(reason(&missing, &["rwsem"]).contains("3 results of rwsem"));
    let unloaded = |heard: &mut Heard| {
        heard.tests.clear();
        let error = Some("ENOENT (a symbol is missing)".to_owned());
        heard.modules.push(ModuleOutcome { file: "07-plugstorm_kunit.ko".into(), error });
    };
    assert!(reason(&unloaded, &["rwsem"]).contains("could not load 07-plugstorm_kunit.ko: ENOENT"));
    assert!(reason(&|heard| heard.tests.clear(), &["rwsem"]).contains("kunit.enable"));
}

#[test]
fn a_finding_stands_in_what_was_cut_short() {
    let mut heard = heard(&console(&[("rwsem", &["not ok access"])]));
    heard.end = End::Cut("the guest reset itself".into());
    let report = judge(heard, "mine", &["rwsem"]);
    assert_eq!(report.verdict, Verdict::Unexpected);
    assert!(report.reason.unwrap().ends_with("; besides, the guest reset itself"));
}

#[test]
fn others_are_left_out_and_a_signal_is_said() {
    let suites = [RWSEM, ("global-lock", &["not ok access"][..])];
    assert_eq!(judged(&suites, &["rwsem"]).verdict, Verdict::AsExpected);
    let mut heard = heard(&console(&[RWSEM]));
    heard.end = End::Interrupted;
    assert_eq!(judge(heard, "mine", &["rwsem"]).verdict, Verdict::Interrupted);
}

#[test]
fn a_suite_that_cannot_be_started_is_unexpected() {
    let report = judge(heard("KTAP version 1\n1..1\nnot ok 1 plugstorm_rwsem\n"), "mine", &["rwsem"]);
    assert_eq!(report.verdict, Verdict::Unexpected);
    assert!(report.reason.unwrap().contains("its suite could not be started"));
}
