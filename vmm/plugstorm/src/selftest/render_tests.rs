use super::super::judge::tests::judged;
use super::*;

#[test]
fn a_report_is_read_at_a_glance() {
    let shared = [
        "ok access",
        "not ok sleeping_reader",
        "ok load_shared_handle",
        "not ok two_threads_and_revoke",
        "ok late_open",
        "ok double_revoke",
    ];
    let stack = [
        "    # access: EXPECTATION FAILED at kunit_suite.c:63|    Expected visit == 0, but|        visit == -116 (0xff)|not ok access",
        "ok nested",
        "not ok sleeping_reader",
    ];
    let rwsem =
        ["ok access", "ok nested # SKIP a lock that sleeps is taken once by a thread", "not ok sleeping_reader"];
    let suites = [("shared-handle", &shared[..]), ("stack-token", &stack), ("rwsem", &rwsem)];
    insta::assert_snapshot!(render(&judged(&suites, &["shared-handle", "stack-token", "rwsem"])));
}

#[test]
fn what_proves_nothing_says_so_first() {
    insta::assert_snapshot!(render(&judged(&[("rwsem", &["ok access"])], &["rwsem", "in-flight"])));
}
