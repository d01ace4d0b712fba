//! What is wrong with a file of known findings, shown at its place.

use std::path::PathBuf;

use miette::{Diagnostic, NamedSource};
use thiserror::Error;

use crate::scenario::Mistake;

/// Why a file of known findings cannot be used.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum KnownError {
    /// It cannot be read.
    #[error("the known findings {} cannot be read: {source}", path.display())]
    #[diagnostic(help("give a file to --known; README.md shows what is in it"))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// What is in it is wrong.
    #[error("the known findings {file} cannot be used")]
    Wrong {
        /// The file.
        file: String,
        /// What it says.
        #[source_code]
        text: NamedSource<String>,
        /// All that is wrong with it.
        #[related]
        mistakes: Vec<Mistake>,
    },
}

impl KnownError {
    pub(super) fn wrong(file: &str, text: &str, mistakes: Vec<Mistake>) -> Self {
        let named = NamedSource::new(file, text.to_owned()).with_language("toml");
        Self::Wrong { file: file.to_owned(), text: named, mistakes }
    }
}
