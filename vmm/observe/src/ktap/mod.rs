//! What a kernel's self-tests print, in KTAP (Documentation/dev-tools/ktap.rst), read and counted.
//!
//! The report stands in the kernel's log, between lines of everybody else, behind time stamps and callers. A plan says how
//! many results are to come: those that did not are missing, and a report that lacks some proves nothing. [`line`] reads a
//! line; [`reader`] knows which test a line belongs to.

mod line;
mod reader;

use serde::{Deserialize, Serialize};

pub use reader::Reader;

/// Tests inside tests, at most. KUnit has three levels.
pub const MAX_DEPTH: usize = 8;
/// A name is cut here, in bytes. KUnit's own limit is 256.
pub const MAX_NAME_BYTES: usize = 256;
/// Lines kept of what was said of one test.
pub const MAX_NOTES: usize = 32;
/// Such a line is cut here, in bytes.
pub const MAX_NOTE_BYTES: usize = 512;

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// `ok`.
    Passed,
    /// `not ok`.
    Failed,
    /// With the directive SKIP.
    Skipped,
    /// `not ok`, and the test itself says that it had to: TODO, XFAIL.
    FailedAsMarked,
}

/// A test that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Test {
    /// The names of the tests it is in, as far as the report told them before, and its own.
    pub path: Vec<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// What the result's line says behind the `#`, such as `SKIP not on this CPU`.
    pub remark: Option<String>,
    /// What was said of it before its result.
    pub notes: Vec<String>,
    /// It has tests of its own, which were told before.
    pub is_parent: bool,
    /// The first line of the log that may be about it, counted from 0.
    pub first_line: u64,
    /// The line of its result.
    pub line: u64,
}

/// Something that a report says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A line of the report, without what the kernel puts before it.
    Line(String),
    /// A test has ended.
    Test(Test),
    /// Results that will not come any more.
    Missing {
        /// The test they belong to; empty for those of the report itself.
        path: Vec<String>,
        /// How many. Tests within them are not among these: nobody knows how many there are.
        tests: u64,
    },
}

/// What all reports of a log add up to. Tests that have tests of their own count only if they failed with none of these
/// to blame.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// [`Outcome::Passed`].
    pub passed: u64,
    /// [`Outcome::Failed`].
    pub failed: u64,
    /// [`Outcome::Skipped`].
    pub skipped: u64,
    /// [`Outcome::FailedAsMarked`].
    pub failed_as_marked: u64,
    /// Results that a plan or a number announced and that did not come.
    pub missing: u64,
    /// Results beyond a plan.
    pub unplanned: u64,
    /// Reports that began: one for the suites of a kernel, one for each module.
    pub reports: u64,
    /// Why the tests ended themselves: `Bail out!`.
    pub bailed_out: Option<String>,
}
