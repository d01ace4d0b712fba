//! Failures that are known before any test runs, with the letter of their defect (`revocable.md`).

/// A defect, and whether a case shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    /// Its letter, or `control`.
    pub(super) defect: &'static str,
    /// Whenever the case runs, on every kernel: not to see it is a fault of the test's. Otherwise it takes luck, or a kernel
    /// that watches its memory.
    pub(super) certain: bool,
}

/// Design, cases, defect, whether they are certain to show it.
type Row = (&'static str, &'static [&'static str], &'static str, bool);

const SLEEPER: &[&str] = &["sleeping_reader"];
const TWICE: &[&str] = &["double_revoke"];
const LATE: &[&str] = &["late_open"];
/// Those that look for the resource when it was revoked, by a handle from before.
const AFTERWARDS: &[&str] = &[
    "early_return",
    "revocation",
    "two_threads",
    "load_own_handles",
    "load_shared_handle",
    "two_threads_and_revoke",
    "double_revoke",
];

const TABLE: &[Row] = &[
    ("unprotected", AFTERWARDS, "control", true),
    ("unprotected", LATE, "control", true),
    ("unprotected", SLEEPER, "control", true),
    ("shared-handle", &["two_threads_and_revoke"], "A", true),
    ("shared-handle", &["load_shared_handle"], "A", false),
    ("shared-handle", LATE, "B", false),
    ("shared-handle", SLEEPER, "J", true),
    ("shared-handle", TWICE, "I", false),
    ("by-value", SLEEPER, "J", true),
    ("by-value", &["load_own_handles", "load_shared_handle", "two_threads_and_revoke"], "E", false),
    ("by-value-copy", SLEEPER, "J", true),
    // The copy's memory was freed, and mostly looks as before.
    ("by-value-copy", AFTERWARDS, "D", false),
    ("get-put", SLEEPER, "J", true),
    ("get-put", TWICE, "I", false),
    ("get-put-embedded", SLEEPER, "J", true),
    ("get-put-embedded", &["load_own_handles", "load_shared_handle", "two_threads_and_revoke"], "G", false),
    ("stack-token", SLEEPER, "J", true),
    ("rwsem", SLEEPER, "J", true),
    ("percpu-rwsem", SLEEPER, "J", true),
    ("global-lock", SLEEPER, "J", true),
    ("ops-pointer", SLEEPER, "J", true),
    ("enter-exit", SLEEPER, "J", true),
];

/// What is known of a case of a design's suite.
pub(super) fn known(design: &str, case: &str) -> Option<Known> {
    let row = TABLE.iter().find(|(name, cases, ..)| *name == design && cases.contains(&case))?;
    Some(Known { defect: row.2, certain: row.3 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_case_has_one_defect() {
        for (at, (design, cases, ..)) in TABLE.iter().enumerate() {
            for case in *cases {
                let same = |row: &&Row| row.0 == *design && row.1.contains(case);
                assert_eq!(TABLE.iter().filter(same).count(), 1, "{design} {case} (row {at})");
            }
        }
    }

    #[test]
    fn cases_are_looked_up_by_design() {
        assert_eq!(known("shared-handle", "two_threads_and_revoke"), Some(Known { defect: "A", certain: true }));
        assert_eq!(known("stack-token", "two_threads_and_revoke"), None);
        assert_eq!(known("in-flight", "sleeping_reader"), None);
    }
}
