//! What a benchmark comes to, for people and for programs.

mod bencher;
mod csv;
mod figures;
mod github_action;
mod grid;
mod json;
mod kcidb;
mod tables;
mod text;

use clap::ValueEnum;
use thiserror::Error;

use super::results::Results;

/// What a benchmark is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Format {
    /// Tables for a terminal.
    Table,
    /// The same as Markdown of 78 columns, for a mail.
    Markdown,
    /// All figures, as JSON of our own.
    Json,
    /// The raw samples, a line each: for Apache Otava and others.
    Csv,
    /// Bencher's Metric Format.
    Bencher,
    /// What github-action-benchmark reads as `customSmallerIsBetter`.
    GithubActionBenchmark,
    /// What kernel CI systems send each other: KCIDB's JSON, version 5.3, a test with a number for each figure.
    Kcidb,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Table, Self::Markdown, Self::Json, Self::Csv, Self::Bencher, Self::GithubActionBenchmark, Self::Kcidb];

    /// The file that it is put into. None: it is for standard output.
    #[must_use]
    pub fn file(self) -> Option<&'static str> {
        match self {
            Self::Table => None,
            Self::Markdown => Some("bench.md"),
            Self::Json => Some("bench.json"),
            Self::Csv => Some("samples.csv"),
            Self::Bencher => Some("bench.bencher.json"),
            Self::GithubActionBenchmark => Some("bench.github-action-benchmark.json"),
            Self::Kcidb => Some("bench.kcidb.json"),
        }
    }
}

/// Why a format cannot be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RenderError {
    /// The JSON writer failed.
    #[error("the benchmark cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

pub(super) fn render(results: &Results, format: Format, width: usize, origin: &str) -> Result<String, RenderError> {
    Ok(match format {
        Format::Table => text::terminal(results, width),
        Format::Markdown => text::markdown(results),
        Format::Json => json::render(results)?,
        Format::Csv => csv::render(&results.pool),
        Format::Bencher => bencher::render(results)?,
        Format::GithubActionBenchmark => github_action::render(results)?,
        Format::Kcidb => kcidb::render(results, origin)?,
    })
}
