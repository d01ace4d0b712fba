//! What runs found, for people and for programs: one report over one run or many, in several formats.
//!
//! [`gather`] reads the folders of runs, [`Report::of`] counts each finding once however many runs met it (`same.rs`), and each
//! format writes what it has a place for. Everything that a guest said goes through [`text::visible`] and through the escape of
//! the format that it is written in.

mod evidence;
mod gather;
mod github;
mod html;
mod junit;
mod kcidb;
mod ktap;
mod locks;
mod markdown;
mod overview;
mod processors;
mod reproduce;
mod same;
mod settings;
mod sources;
mod stacks;
mod strip;
mod text;

use clap::ValueEnum;
use thiserror::Error;

pub(crate) use gather::of_folders;
pub use gather::{GatherError, Gathered, Run, gather};
pub(crate) use kcidb::is_origin;
pub use reproduce::command;
pub use same::{Distinct, Rate, Seen};
pub use settings::Setting;
pub use sources::Sources;
pub use stacks::{Annotate, Line, plain};
pub(crate) use text::visible;

use crate::known::{KnownFindings, accepted};
use crate::results::{EndedBy, REPORTS, RunResult, Verdict};
use crate::verdict::{EXIT_MACHINE, exit_code_of, worst};

/// What a report is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Format {
    /// A page for a browser, in one file.
    Html,
    /// JUnit XML: a test case for each run.
    Junit,
    /// KTAP, version 1: a test for each run, below its scenario.
    Ktap,
    /// What kernel CI systems send each other: KCIDB's JSON, version 5.3.
    Kcidb,
    /// Annotations of a GitHub workflow.
    Github,
    /// Plain text of 72 columns, for a mail.
    Markdown,
}

impl Format {
    /// The file that it is put into, unless somebody wants it elsewhere. None: it is for standard output.
    #[must_use]
    pub fn file(self) -> Option<&'static str> {
        let [html, junit, ktap, kcidb, markdown] = REPORTS;
        match self {
            Self::Html => Some(html),
            Self::Junit => Some(junit),
            Self::Ktap => Some(ktap),
            Self::Kcidb => Some(kcidb),
            Self::Markdown => Some(markdown),
            // A workflow reads them from what a step prints.
            Self::Github => None,
        }
    }

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Junit => "junit",
            Self::Ktap => "ktap",
            Self::Kcidb => "kcidb",
            Self::Github => "github",
            Self::Markdown => "markdown",
        }
    }
}

/// Why a report cannot be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RenderError {
    /// The XML writer failed.
    #[error("the JUnit report cannot be written: {0}")]
    Junit(#[from] quick_junit::SerializeError),
    /// The JSON writer failed.
    #[error("the KCIDB report cannot be written: {0}")]
    Kcidb(#[from] serde_json::Error),
}

/// What a run comes to, or all runs of a report: the last of these that one of them is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Overall {
    /// Nothing was found, and the evidence is complete.
    Clean,
    /// Something was found, and all of it is known and accepted.
    Known,
    /// Nothing new was found, and a run proves nothing.
    Inconclusive,
    /// Nothing new was found, and a signal ended a run.
    Interrupted,
    /// Something was found that nobody knew of.
    Found,
}

impl Overall {
    /// Of one run.
    #[must_use]
    pub fn of(result: &RunResult) -> Self {
        match (result.verdict, result.ended_by) {
            (Verdict::Clean, _) => Self::Clean,
            (Verdict::Found, EndedBy::Itself) if accepted(result) => Self::Known,
            (Verdict::Found, EndedBy::Signal) if accepted(result) => Self::Interrupted,
            (Verdict::Found, EndedBy::User | EndedBy::Machine | EndedBy::Host) if accepted(result) => {
                Self::Inconclusive
            }
            (Verdict::Found, _) => Self::Found,
            (Verdict::Inconclusive | Verdict::Running, _) => Self::Inconclusive,
            (Verdict::Interrupted, _) => Self::Interrupted,
        }
    }

    /// As a heading.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Found | Self::Known => "FOUND",
            Self::Interrupted => "INTERRUPTED",
            Self::Inconclusive => "INCONCLUSIVE",
            Self::Clean => "CLEAN",
        }
    }
}

/// Runs, and what they found.
#[derive(Debug)]
pub struct Report {
    /// The runs, in the order of their folders.
    pub runs: Vec<Run>,
    /// Runs of one setting are comparable: of these a rate can be told.
    pub settings: Vec<Setting>,
    /// What was found, each once: hangs first, then what most runs met.
    pub findings: Vec<Distinct>,
    /// What became of each entry of the file of known findings.
    pub known: Vec<String>,
    /// Results that are missing or could not be read, one sentence each.
    pub unread: Vec<String>,
}

impl Report {
    /// Of these runs. With a file of known findings, these and no others are known, whatever the results say.
    #[must_use]
    pub fn of(gathered: Gathered, known: Option<&KnownFindings>) -> Self {
        let Gathered { mut runs, unread, .. } = gathered;
        if let Some(known) = known {
            runs.iter_mut().for_each(|run| known.mark(&mut run.result));
        }
        let results: Vec<&RunResult> = runs.iter().map(|run| &run.result).collect();
        let account = known.map(|known| known.account(&results)).unwrap_or_default();
        let settings = settings::of(&runs);
        let findings = same::distinct(&runs, &settings);
        Self { runs, settings, findings, known: account, unread }
    }

    /// What all runs come to. A run whose result is missing proves nothing.
    #[must_use]
    pub fn overall(&self) -> Overall {
        let unread = (!self.unread.is_empty()).then_some(Overall::Inconclusive);
        self.runs.iter().map(|run| Overall::of(&run.result)).chain(unread).max().unwrap_or(Overall::Inconclusive)
    }

    /// As `storm` ends with such runs: the gravest of all; a run all of whose findings are known is as good as a clean one.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let unread = (!self.unread.is_empty()).then_some(EXIT_MACHINE);
        worst(self.runs.iter().map(|run| exit_code_of(&run.result)).chain(unread))
    }

    /// What it comes to, in one sentence.
    #[must_use]
    pub fn headline(&self) -> String {
        text::headline(self)
    }

    /// For a terminal, after all runs: each finding once, and how often.
    #[must_use]
    pub fn overview(&self) -> String {
        overview::render(self)
    }

    /// In a format. `annotate` says more of a line of a stack; [`plain`] says nothing more. `origin` is how KCIDB calls who
    /// sends the report.
    ///
    /// # Errors
    /// [`RenderError`].
    pub fn render(&self, format: Format, annotate: &Annotate<'_>, origin: &str) -> Result<String, RenderError> {
        Ok(match format {
            Format::Html => html::render(self, annotate),
            Format::Junit => junit::render(self, annotate)?,
            Format::Ktap => ktap::render(self),
            Format::Kcidb => kcidb::render(self, origin)?,
            Format::Github => github::render(self),
            Format::Markdown => markdown::render(self, annotate),
        })
    }
}

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;
