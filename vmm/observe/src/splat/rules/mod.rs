//! The table of what a kernel prints when something is wrong.
//!
//! One row a kind of line. The first row that fits a line gives the report its title. A title is a pattern: `{name}`
//! stands for the group of that name in the row's expression, `{frame}` for the first frame that matters, `{access}` for
//! a KASAN report's `Read` or `Write`. Each row has an example line: the tests check that it is the row that fits it.

mod faults;
mod hangs;
mod locks;
mod sanitizers;
mod warnings;

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, MatchKind};
use memchr::memrchr;
use regex::{Regex, RegexSet};

use super::report::SplatKind;

/// Where a report's frame comes from. All but `None` and `Named` fall back on the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// The title needs none.
    None,
    /// The group `frame` of the line, whatever it is.
    Named,
    /// The group `frame` of the line, unless it is a function that never matters; then the stack.
    Line,
    /// The instruction pointer, then the stack.
    Stack,
    /// The call trace alone, from the first frame of the first trace.
    Trace,
    /// Lockdep: the place of the first lock named after the line (`at: f+0x1/0x2`), then the stack.
    LockPlace,
    /// The first frame of all, before any `Call Trace:` too.
    AnyTrace,
    /// As `Stack`; whatever is built on object debugging never matters.
    Object,
    /// As `AnyTrace`; whatever gives or takes pages never matters.
    Page,
    /// A stall: where the interrupted code that does not return was entered.
    Stall,
    /// A stack that grew too deep: where it was entered.
    Entry,
    /// The function of a line `last function: f` further on.
    LastFunction,
}

/// What else a row needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Note {
    /// Nothing.
    Plain,
    /// The report is whole without a stack.
    NoStack,
    /// It is the next line of a report that has begun; it begins one only if there is none.
    Continued,
    /// It is a consequence of a report that has begun; it begins one only if there is none.
    FollowUp,
    /// It is a report only if a stack follows.
    Tentative,
    /// It is a panic: part of a report that has begun, and the end of what belongs to it.
    Panic,
}

/// A row.
#[derive(Debug)]
pub(super) struct Rule {
    /// An expression for the line, prefixes taken off.
    pub(super) line: &'static str,
    pub(super) title: &'static str,
    /// Alternative titles, parted by `|`.
    pub(super) alt: &'static str,
    pub(super) kind: SplatKind,
    pub(super) from: From,
    pub(super) note: Note,
    /// A line it is there for.
    #[cfg_attr(not(test), expect(dead_code, reason = "it is documentation, and the tests read it"))]
    pub(super) example: &'static str,
}

/// Shorthand for a row.
const fn rule(
    line: &'static str,
    [title, alt]: [&'static str; 2],
    kind: SplatKind,
    from: From,
    note: Note,
    example: &'static str,
) -> Rule {
    Rule { line, title, alt, kind, from, note, example }
}

/// Lines that look like a report and are none. Looked at before the rows.
#[rustfmt::skip]
const BENIGN: &[&str] = &[
    "INFO: lockdep is turned off",
    "INFO: Stall ended before state dump start",
    "INFO: NMI handler .* took too long",
    "INFO: recovery required on readonly filesystem",
    "INFO: Completed|INFO: Some |INFO: (?:rcu_[a-z]+ )?kthread",
    "(?i)WARNING: (?:/etc/|the mand mount option|no suitable|could not|unable to|unsupported|Can't|failed to|REMOTE HOST|lvmetad|workqueue cpumask)",
    "BUG: syzkaller|BUG: TODO",
    "WARNING: TCP: request_sock_TCP",
    "(?:[A-Za-z_]+[:_-])INFO:",
];

/// All rows, in order.
fn rules() -> impl Iterator<Item = &'static Rule> {
    [sanitizers::RULES, locks::RULES, hangs::RULES, faults::RULES, warnings::RULES].into_iter().flatten()
}

/// Each line that fits a row has one of these in it, or begins a dump that is no report. Few lines of a log have: the others
/// cost one look at their bytes.
#[rustfmt::skip]
const SIGNS: &[&str] = &[
    "BUG: ", "BUG ", "WARNING: ", "INFO:", "UBSAN: ", "Kernel panic - not", "PANIC: ", "SYZF", "Unable to handle kernel", "Oops: ",
    "protection fault", "segment fault: ", "double fault", "Unhandled fault:", "divide error: ", "int3: ", "invalid opcode: ",
    "alignment check: ", "bounds: ", "overflow: ", "overflow (", "segment not present: ", "invalid TSS: ", "coprocessor segment",
    "x87 FPU exception: ", "SIMD exception: ", "stack guard page", "stack segment: ",
    "Internal error:", "Unhandled prefetch abort:", "Alignment trap:", "VFS: ", "Booting the kernel.", "early console in",
    "Decompressing Linux", "Linux version ", "detected hard LOCKUP", "unregister_netdevice: waiting", "unreferenced object 0x",
    "cleanup_srcu_struct: ", "FAULT_INJECTION: forcing", "FAULT_FLAG_ALLOW_RETRY missing",
];

/// The leftmost match is looked for, since that is the kind for which the library compares many bytes at once.
static SIGN: LazyLock<Option<AhoCorasick>> =
    LazyLock::new(|| AhoCorasick::builder().match_kind(MatchKind::LeftmostFirst).build(SIGNS).ok());

/// How many bytes of whole lines at the beginning fit no row.
pub(super) fn quiet(bytes: &[u8]) -> usize {
    let Some(sign) = SIGN.as_ref() else { return 0 };
    let end = sign.find(bytes).map_or(bytes.len(), |found| found.start());
    bytes.get(..end).and_then(|quiet| memrchr(b'\n', quiet)).map_or(0, |line_ends| line_ends + 1)
}

struct Table {
    set: RegexSet,
    rows: Vec<(Regex, &'static Rule)>,
    benign: RegexSet,
}

static TABLE: LazyLock<Option<Table>> = LazyLock::new(|| {
    let set = RegexSet::new(rules().map(|rule| rule.line)).ok()?;
    let rows = rules().map(|rule| Some((Regex::new(rule.line).ok()?, rule))).collect::<Option<_>>()?;
    let benign = RegexSet::new(BENIGN).ok()?;
    Some(Table { set, rows, benign })
});

/// A line that fits a row.
#[derive(Debug, Clone)]
pub(super) struct Match {
    pub(super) rule: &'static Rule,
    /// The named groups.
    pub(super) groups: Vec<(&'static str, String)>,
}

impl Match {
    /// Whether another message's time stamp stands in the line.
    pub(super) fn title_is_broken(&self) -> bool {
        self.groups.iter().any(|(_, value)| super::title::has_stamp(value))
    }

    pub(super) fn group(&self, name: &str) -> Option<&str> {
        self.groups.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
    }
}

/// The first row that fits a line.
pub(super) fn find(text: &str) -> Option<Match> {
    let table = TABLE.as_ref()?;
    if !SIGN.as_ref()?.is_match(text) {
        return None;
    }
    let index = table.set.matches(text).into_iter().next()?;
    if table.benign.is_match(text) {
        return None;
    }
    let (expression, rule) = table.rows.get(index)?;
    let captures = expression.captures(text)?;
    let groups =
        expression.capture_names().flatten().filter_map(|name| Some((name, captures.name(name)?.as_str().to_owned())));
    Some(Match { rule, groups: groups.collect() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::strategy::ValueTree;
    use proptest::string::string_regex;
    use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

    use super::*;

    #[test]
    fn every_row_fits_its_example_and_no_row_before_does() {
        let mut wrong = Vec::new();
        for rule in rules() {
            Regex::new(rule.line).unwrap_or_else(|error| panic!("{error}"));
            let found = find(rule.example).unwrap_or_else(|| panic!("nothing fits {}", rule.example));
            if found.rule.line != rule.line {
                wrong.push((rule.example, found.rule.line));
            }
        }
        assert!(wrong.is_empty(), "rows whose example another row takes: {wrong:#?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// The signs are a shortcut and nothing else: whatever fits a row has one.
        #[test]
        fn each_line_that_fits_a_row_has_a_sign(seed in any::<u64>()) {
            let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &[seed.to_le_bytes(); 4].concat()));
            let mut made = 0;
            for rule in rules() {
                // The generator knows no anchors.
                let line = rule.line.replace('^', "").replace("$", "").replace("\\b", " ").replace("[\\s", "[^\\s").replace("[:", "[^:");
                let Ok(lines) = string_regex(&line) else { continue };
                let line = lines.new_tree(&mut runner).unwrap().current();
                if TABLE.as_ref().unwrap().set.is_match(&line) {
                    made += 1;
                    prop_assert!(SIGN.as_ref().unwrap().is_match(&line), "{line}");
                }
            }
            prop_assert!(made * 2 > rules().count(), "{made} of {}", rules().count());
        }
    }

    #[test]
    fn quiet_bytes_end_with_the_line_before_a_sign() {
        assert_eq!(quiet(b""), 0);
        assert_eq!(quiet(b"half a line"), 0);
        assert_eq!(quiet(b"a\nb\nhalf"), 4);
        assert_eq!(quiet(b"a\n[ 1.0] BUG: b\n"), 2);
        assert_eq!(quiet(b"BUG: b\n"), 0);
    }

    #[test]
    fn names_in_a_title_are_groups_of_its_row() {
        for rule in rules() {
            for name in rule.title.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
                let known = ["frame", "access"].contains(&name) || rule.line.contains(&format!("(?P<{name}>"));
                assert!(known, "{name} of {}", rule.title);
            }
        }
    }
}
