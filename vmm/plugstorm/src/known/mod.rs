//! Findings that a user knows of and accepts for now, so that a pipeline fails over new ones only.
//!
//! ```toml
//! [[known]]
//! title = "removal never ends: gpiochip_remove waits in synchronize_srcu for *"    # `*` stands for anything
//! kernel = "debian-6.12*"                 # optional; so is `scenario`
//! reason = "reported; our readers are not interruptible yet"
//! url = "https://lore.kernel.org/…"       # optional
//! expires = 2027-03-31                    # the last day on which it counts
//! ```
//!
//! Nothing is accepted in silence: the verdict stays `found`, the finding says that it is known and why, and what has expired
//! or met nothing is told.

mod error;
mod table;

use std::path::Path;

use regex::Regex;
use toml::value::Date;

pub use error::KnownError;

use crate::calendar;
use crate::results::{Finding, RunResult, Verdict};
use crate::wildcard;

/// What a title has to be like.
#[derive(Debug, Clone)]
enum Pattern {
    /// This, in which `*` stands for anything.
    Text(String),
    /// What this is found in.
    Regex(Regex),
}

impl Pattern {
    fn fits(&self, title: &str) -> bool {
        match self {
            Self::Text(pattern) => wildcard::fits(pattern, title),
            Self::Regex(regex) => regex.is_match(title),
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Text(pattern) => pattern,
            Self::Regex(regex) => regex.as_str(),
        }
    }
}

/// A finding that is known.
#[derive(Debug, Clone)]
struct Entry {
    title: Pattern,
    /// Only in scenarios whose name fits.
    scenario: Option<String>,
    /// Only on kernels whose name or release fits.
    kernel: Option<String>,
    reason: String,
    url: Option<String>,
    /// The last day on which it counts.
    expires: Date,
}

impl Entry {
    fn fits(&self, result: &RunResult, finding: &Finding) -> bool {
        let wanted = |pattern: &Option<String>, names: &[&str]| {
            pattern.as_ref().is_none_or(|pattern| names.iter().any(|name| wildcard::fits(pattern, name)))
        };
        let guest = &result.guest;
        wanted(&self.scenario, &[&result.scenario])
            && wanted(&self.kernel, &[&guest.kernel, guest.release.as_deref().unwrap_or_default()])
            && finding.titles().any(|title| self.title.fits(title))
    }

    fn why(&self) -> String {
        let url = self.url.as_ref().map(|url| format!(" ({url})")).unwrap_or_default();
        format!("{}{url}", self.reason)
    }
}

/// What is known, as of one day.
#[derive(Debug, Clone)]
pub struct KnownFindings {
    entries: Vec<Entry>,
    today: Date,
    text: String,
}

impl KnownFindings {
    /// Nothing is known.
    #[must_use]
    pub fn none() -> Self {
        Self { entries: Vec::new(), today: calendar::today(), text: String::new() }
    }

    /// Reads a file, as of today.
    ///
    /// # Errors
    /// That it cannot be read; or everything that is wrong with it, each with its place.
    pub fn load(path: &Path) -> Result<Self, KnownError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| KnownError::Unreadable { path: path.to_path_buf(), source })?;
        Self::parse(&text, &path.display().to_string(), calendar::today())
    }

    /// Reads a text, as of a day. `file` is named in errors.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its place.
    pub fn parse(text: &str, file: &str, today: Date) -> Result<Self, KnownError> {
        Ok(Self { entries: table::entries(text, file)?, today, text: text.to_owned() })
    }

    /// What was read, for whoever reads it again: a nested machine.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The day as of which entries have expired or not.
    #[must_use]
    pub fn today(&self) -> Date {
        self.today
    }

    fn has_expired(&self, entry: &Entry) -> bool {
        entry.expires < self.today
    }

    /// The first one that still counts and that a finding is.
    fn of(&self, result: &RunResult, finding: &Finding) -> Option<&Entry> {
        self.entries.iter().find(|entry| !self.has_expired(entry) && entry.fits(result, finding))
    }

    /// Says of each finding of a result whether it is known, and why.
    pub fn mark(&self, result: &mut RunResult) {
        let entries: Vec<Option<&Entry>> = result.findings.iter().map(|finding| self.of(result, finding)).collect();
        for (finding, entry) in result.findings.iter_mut().zip(entries) {
            finding.known = entry.is_some();
            finding.known_reason = entry.map(|entry| entry.reason.clone());
            finding.known_url = entry.and_then(|entry| entry.url.clone());
        }
    }

    /// What became of each entry over these runs, a sentence each: in how many of them it was accepted, that it met nothing,
    /// that it has expired.
    #[must_use]
    pub fn account(&self, results: &[&RunResult]) -> Vec<String> {
        let runs = results.len();
        let sentence = |entry: &Entry| {
            let found = |result: &&RunResult| result.findings.iter().any(|finding| entry.fits(result, finding));
            let (title, why, until) = (entry.title.text(), entry.why(), entry.expires);
            match (results.iter().copied().filter(found).count(), self.has_expired(entry)) {
                (0, true) => format!("expired on {until}, and matched nothing: {title}"),
                (met, true) => format!("expired on {until}, and no longer accepted, in {met} of {runs} runs: {title}"),
                (0, false) => format!("matched nothing: {title} (accepted until {until}: {why})"),
                (met, false) => format!("accepted until {until}, in {met} of {runs} runs: {title}: {why}"),
            }
        };
        self.entries.iter().map(sentence).collect()
    }
}

/// Whether all that a run found is known.
#[must_use]
pub fn accepted(result: &RunResult) -> bool {
    let all_are = !result.findings.is_empty() && result.findings.iter().all(|found| found.known);
    result.verdict == Verdict::Found && result.findings_left_out == 0 && all_are
}

#[cfg(test)]
mod tests;
