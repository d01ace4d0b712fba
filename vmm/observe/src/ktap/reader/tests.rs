use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

fn read(log: &str) -> (Vec<Event>, Totals) {
    let (mut events, mut reader) = (Vec::new(), Reader::new());
    reader.push(log.as_bytes(), |event| events.push(event));
    let totals = reader.finish(|event| events.push(event));
    (events, totals)
}

fn tests_of(events: &[Event]) -> Vec<Test> {
    events.iter().filter_map(|event| if let Event::Test(test) = event { Some(test.clone()) } else { None }).collect()
}

fn counts(totals: &Totals) -> [u64; 5] {
    [totals.passed, totals.failed, totals.skipped, totals.failed_as_marked, totals.missing]
}

/// As KUnit of 6.12 prints it for a module, with PRINTK_CALLER, and other lines between.
const KUNIT: &str = "\
[    3.100000][    T1] KTAP version 1
[    3.100001][    T1] 1..2
[    3.100002][    T1]     KTAP version 1
[    3.100003][    T1]     # Subtest: plugstorm_unprotected
[    3.100004][    T1]     # module: plugstorm_kunit
[    3.100005][    T1]     1..3
[    3.100006][   T71]     ok 1 access
[    3.200000][   T40] pci 0000:00:01.0: ok 1 thing
[    3.300000][   T72]     # revocation: ASSERTION FAILED at kunit_suite.c:137
[    3.300001][   T72]     Expected plugstorm_kunit_visit(fx, fx->handle) == -19, but
[    3.300002][   T72]         plugstorm_kunit_visit(fx, fx->handle) == 0 (0x0)
[    3.300003][   T40] usb: something else
[    3.300004][   T40]     and what it has to say
[    3.300005][    T1]     not ok 2 revocation
[    3.300006][    T1]     ok 3 sleeping_reader # SKIP nobody may sleep in a section of this design
[    3.300007][    T1] # plugstorm_unprotected: pass:1 fail:1 skip:1 total:3
[    3.300008][    T1] # Totals: pass:1 fail:1 skip:1 total:3
[    3.300009][    T1] not ok 1 plugstorm_unprotected
[    3.400000][    T1]     KTAP version 1
[    3.400001][    T1]     # Subtest: plugstorm_rwsem
[    3.400002][    T1]     1..3
[    3.400003][    T1]     ok 1 access
";

#[test]
fn a_report_of_kunit_is_read() {
    let (events, totals) = read(KUNIT);
    assert_eq!(counts(&totals), [2, 1, 1, 0, 3]);
    assert_eq!((totals.reports, totals.unplanned), (1, 0));
    let tests = tests_of(&events);
    let paths: Vec<String> = tests.iter().map(|test| test.path.join("/")).collect();
    assert_eq!(
        paths,
        [
            "plugstorm_unprotected/access",
            "plugstorm_unprotected/revocation",
            "plugstorm_unprotected/sleeping_reader",
            "plugstorm_unprotected",
            "plugstorm_rwsem/access"
        ]
    );
    assert_eq!(
        tests[1].notes,
        [
            "revocation: ASSERTION FAILED at kunit_suite.c:137",
            "Expected plugstorm_kunit_visit(fx, fx->handle) == -19, but",
            "plugstorm_kunit_visit(fx, fx->handle) == 0 (0x0)"
        ]
    );
    // From the line after the result before it.
    assert_eq!((tests[1].first_line, tests[1].line), (7, 13));
    assert_eq!(tests[2].remark.as_deref(), Some("SKIP nobody may sleep in a section of this design"));
    assert!(tests[3].is_parent && !tests[1].is_parent);
    let missing: Vec<&Event> = events.iter().filter(|event| matches!(event, Event::Missing { .. })).collect();
    assert_eq!(
        missing,
        [
            &Event::Missing { path: vec!["plugstorm_rwsem".into()], tests: 2 },
            &Event::Missing { path: vec![], tests: 1 }
        ]
    );
}

#[test]
fn the_report_alone_is_the_same_report() {
    let (events, totals) = read(KUNIT);
    let lines =
        events.iter().filter_map(|event| if let Event::Line(line) = event { Some(line.as_str()) } else { None });
    let alone: String = lines.flat_map(|line| [line, "\n"]).collect();
    assert!(!alone.contains("pci 0000") && !alone.contains("usb:"), "{alone}");
    let (again, same) = read(&alone);
    assert_eq!(same, totals);
    let bare = |events: &[Event]| -> Vec<(Vec<String>, Vec<String>)> {
        tests_of(events).into_iter().map(|test| (test.path, test.notes)).collect()
    };
    assert_eq!(bare(&again), bare(&events));
}

/// The examples of ktap.rst.
#[test]
fn the_examples_of_the_specification_are_read() {
    let two = "KTAP version 1\n1..1\n  KTAP version 1\n  1..2\n  ok 1 test_1\n  not ok 2 test_2\n# example failed\nnot ok 1 example\n";
    let (events, totals) = read(two);
    assert_eq!(counts(&totals), [1, 1, 0, 0, 0]);
    assert_eq!(tests_of(&events)[2].notes, ["example failed"]);
    let deep = "KTAP version 1\n1..2\n  KTAP version 1\n  1..2\n    KTAP version 1\n    1..2\n    not ok 1 test_1\n    ok 2 test_2\n  \
                not ok 1 test_3\n  ok 2 test_4 # SKIP\nnot ok 1 example_test_1\nok 2 example_test_2\n";
    assert_eq!(counts(&read(deep).1), [2, 1, 1, 0, 0]);
}

#[test]
fn parametrised_tests_have_no_plan_and_suites_of_old_kernels_no_report() {
    let (events, totals) = read(
        "    KTAP version 1\n    # Subtest: suite\n    1..1\n        KTAP version 1\n        # Subtest: case\n        ok 1 one\n        \
         not ok 2 two\n        ok 4 four\n    not ok 1 - case\nnot ok 1 - suite\n",
    );
    assert_eq!(counts(&totals), [2, 1, 0, 0, 1]);
    assert_eq!(tests_of(&events)[1].path, ["suite", "case", "two"]);
    assert!(events.contains(&Event::Missing { path: vec!["suite".into(), "case".into()], tests: 1 }));
}

#[test]
fn a_suite_that_fails_by_itself_counts() {
    let (_, totals) =
        read("KTAP version 1\n1..2\n    KTAP version 1\n    1..1\n    ok 1 a\nnot ok 1 suite\nnot ok 2 other\n");
    assert_eq!(counts(&totals), [1, 2, 0, 0, 0]);
}

#[test]
fn directives_change_what_a_result_means() {
    let (_, totals) = read(
        "1..6\nok 1 a # SKIP x\nnot ok 2 b # SKIP\nnot ok 3 c # TODO later\nnot ok 4 d # XFAIL\nnot ok 5 e # TIMEOUT 3 s\n\
         ok 6 f # rcode=0\n",
    );
    assert_eq!(counts(&totals), [1, 1, 2, 2, 0]);
}

#[test]
fn an_empty_report_is_no_end_and_a_full_one_is() {
    let mut reader = Reader::new();
    reader.push(b"KTAP version 1\n1..0\n", |_| {});
    assert!(!reader.is_complete());
    reader.push(b"KTAP version 1\n1..1\n  KTAP version 1\n  1..1\n  ok 1 a\n", |_| {});
    assert!(!reader.is_complete());
    reader.push(b"ok 1 b\n", |_| {});
    assert!(reader.is_complete());
    assert_eq!(reader.totals().reports, 2);
    assert_eq!(reader.finish(|_| {}).missing, 0);
}

#[test]
fn bailing_out_and_too_many_results_are_told() {
    let (_, totals) = read("1..1\nok 1 a\nok 2 b\nBail out! enough\nBail out! again\n");
    assert_eq!((totals.unplanned, totals.bailed_out.as_deref()), (1, Some("enough")));
}

#[test]
fn what_is_kept_is_bounded() {
    let mut log = String::new();
    for depth in 0..100 {
        let _ = writeln!(log, "{:depth$}KTAP version 1\n{:depth$}# Subtest: {}", "", "", "n".repeat(1000));
    }
    for _ in 0..1000 {
        let _ = writeln!(log, "# {}", "x".repeat(2000));
    }
    log.push_str("ok 1 end\n");
    let (events, _) = read(&log);
    let last = tests_of(&events).pop().unwrap();
    assert_eq!((last.notes.len(), last.notes[0].len()), (MAX_NOTES, MAX_NOTE_BYTES));
    assert!(last.path.iter().all(|name| name.len() <= MAX_NAME_BYTES));
    let mut reader = Reader::new();
    reader.push(log.as_bytes(), |_| {});
    assert!(reader.state.levels.len() <= MAX_DEPTH);
}

/// A test with tests of its own.
#[derive(Debug, Clone)]
enum Tree {
    Leaf(bool, bool),
    Node(Vec<Tree>),
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = (any::<bool>(), any::<bool>()).prop_map(|(ok, skip)| Tree::Leaf(ok, skip));
    leaf.prop_recursive(3, 40, 5, |inner| prop::collection::vec(inner, 1..5).prop_map(Tree::Node))
}

/// Prints a test as KUnit does, and counts it: passed, failed, skipped.
fn print(tree: &Tree, number: usize, indent: usize, noise: &[String], log: &mut String) -> (bool, [u64; 3]) {
    let pad = " ".repeat(indent);
    let stamp = "[   12.345678][  T123] ";
    if let Some(line) = noise.get(number % noise.len().max(1)) {
        let _ = writeln!(log, "{stamp}x{line}");
    }
    match tree {
        Tree::Leaf(ok, skip) => {
            let word = if *ok { "ok" } else { "not ok" };
            let remark = if *skip { " # SKIP because" } else { "" };
            let _ = writeln!(log, "{stamp}{pad}{word} {number} leaf{number}{remark}");
            let counts = match (skip, ok) {
                (true, _) => [0, 0, 1],
                (false, true) => [1, 0, 0],
                (false, false) => [0, 1, 0],
            };
            (*ok || *skip, counts)
        }
        Tree::Node(children) => {
            let _ = writeln!(log, "{stamp}{pad}    KTAP version 1\n{stamp}{pad}    # Subtest: node{number}");
            let _ = writeln!(log, "{stamp}{pad}    1..{}", children.len());
            let (mut all, mut sums) = (true, [0; 3]);
            for (index, child) in children.iter().enumerate() {
                let (ok, counts) = print(child, index + 1, indent + 4, noise, log);
                all &= ok;
                sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            }
            let _ = writeln!(log, "{stamp}{pad}{} {number} node{number}", if all { "ok" } else { "not ok" });
            (all, sums)
        }
    }
}

proptest! {
    /// Whatever the tree, the noise between its lines and the pieces it comes in: each test is counted once.
    #[test]
    fn every_test_is_counted(
        trees in prop::collection::vec(tree(), 1..5),
        noise in prop::collection::vec("[ -~]{0,40}", 0..4),
        size in 1usize..200,
    ) {
        let mut log = format!("KTAP version 1\n1..{}\n", trees.len());
        let mut expected = [0u64; 3];
        for (index, tree) in trees.iter().enumerate() {
            let (_, counts) = print(tree, index + 1, 0, &noise, &mut log);
            expected.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        let mut reader = Reader::new();
        for piece in log.as_bytes().chunks(size) {
            reader.push(piece, |_| {});
        }
        prop_assert!(reader.is_complete());
        let totals = reader.finish(|_| {});
        prop_assert_eq!([totals.passed, totals.failed, totals.skipped], expected);
        prop_assert_eq!((totals.missing, totals.unplanned), (0, 0));
    }

    /// A report cut off anywhere never has more results than the whole, and lacks what the whole has more of.
    #[test]
    fn a_report_that_is_cut_off_is_not_complete(trees in prop::collection::vec(tree(), 1..4), at in 0.0..1.0f64) {
        let mut log = format!("KTAP version 1\n1..{}\n", trees.len());
        for (index, tree) in trees.iter().enumerate() {
            print(tree, index + 1, 0, &[], &mut log);
        }
        let whole = read(&log).1;
        let lines: Vec<&str> = log.lines().collect();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a fraction of a few lines")]
        let kept = 2 + ((lines.len() - 2) as f64 * at) as usize;
        let part = lines.iter().take(kept).flat_map(|line| [*line, "\n"]).collect::<String>();
        let totals = read(&part).1;
        prop_assert!(totals.passed <= whole.passed && totals.skipped <= whole.skipped);
        prop_assert_eq!(totals.missing > 0, kept < lines.len());
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..2000), size in 1usize..100) {
        let mut reader = Reader::new();
        for piece in bytes.chunks(size) {
            reader.push(piece, |_| {});
        }
        let _ = reader.finish(|_| {});
    }

    /// Lines that are nearly right, in any order.
    #[test]
    fn half_right_reports_are_survived(
        lines in prop::collection::vec(r" {0,9}(KTAP version 1|1\.\.[0-9]{1,9}|(not )?ok [0-9]{1,9} ?-? ?[a-z]{0,3}( # (SKIP|TODO|x))?|# (Subtest: [a-z]{0,3}|y)|Bail out!|z)", 0..60),
    ) {
        let mut results = 0u64;
        let mut reader = Reader::new();
        for line in &lines {
            reader.push(format!("{line}\n").as_bytes(), |event| results += u64::from(matches!(event, Event::Test(_))));
            prop_assert!(reader.state.levels.len() <= MAX_DEPTH);
            prop_assert!(reader.state.levels.is_sorted_by(|one, other| one.indent < other.indent));
        }
        let totals = reader.finish(|_| {});
        prop_assert!(totals.passed + totals.failed + totals.skipped + totals.failed_as_marked <= results);
    }
}
