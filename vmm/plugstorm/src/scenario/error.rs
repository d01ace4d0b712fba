//! What is wrong with a scenario, shown at its place.

use std::ops::Range;
use std::path::PathBuf;

use miette::{Diagnostic, NamedSource, SourceSpan};
use thiserror::Error;

/// Why a scenario cannot be used.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("the scenario {} cannot be read: {source}", path.display())]
    #[diagnostic(help("give the path of a scenario file; examples are in fixtures/scenarios"))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// What is in it is wrong.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Wrong(#[from] Mistakes),
}

/// Everything that is wrong with one scenario.
#[derive(Debug, Error, Diagnostic)]
#[error("{}", headline(file, mistakes.len()))]
pub struct Mistakes {
    /// The scenario file.
    pub file: String,
    #[source_code]
    text: NamedSource<String>,
    /// Each of them.
    #[related]
    pub mistakes: Vec<Mistake>,
}

impl Mistakes {
    /// Mistakes in a text.
    #[must_use]
    pub fn new(file: &str, text: &str, mistakes: Vec<Mistake>) -> Self {
        let source = NamedSource::new(file, text.to_owned()).with_language("toml");
        Self { file: file.to_owned(), text: source, mistakes }
    }
}

fn headline(file: &str, count: usize) -> String {
    match count {
        1 => format!("the scenario {file} cannot be run"),
        _ => format!("the scenario {file} cannot be run, for {count} reasons"),
    }
}

/// One mistake, its place, and the way out.
#[derive(Debug, Clone, PartialEq, Eq, Error, Diagnostic)]
#[error("{message}")]
pub struct Mistake {
    /// One sentence.
    pub message: String,
    /// Where.
    #[label("{label}")]
    pub span: SourceSpan,
    label: String,
    /// The way out.
    #[help]
    pub help: Option<String>,
}

impl Mistake {
    /// A mistake at a place of the file, in bytes.
    #[must_use]
    pub fn new(span: Range<usize>, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), span: span.into(), label: "here".into(), help: Some(help.into()) }
    }
}

/// What helps where a scenario is not even TOML.
pub(super) const FORM: &str = "see fixtures/scenarios/README.md for the form of a scenario";

/// The mistake that the TOML reader found, in our words where serde's are of little help. `form` says where the file's form is
/// described.
pub(crate) fn of_toml(error: &toml::de::Error, text: &str, form: &str) -> Mistake {
    let message = error.message().trim_end();
    // A file cut short has its error behind the last character, where no caret can stand.
    let span = error.span().unwrap_or(0..0);
    let span = span.start.min(text.len())..span.end.min(text.len());
    let words = quoted(message);
    let (unknown, known) = match words.split_first() {
        Some((unknown, known)) => (*unknown, known),
        None => return Mistake::new(span, message, form),
    };
    if message.starts_with("unknown field") {
        Mistake::new(span, format!("the key `{unknown}` is not known here"), suggestion(unknown, known))
    } else if message.starts_with("unknown variant") {
        Mistake::new(span, format!("`{unknown}` is none of the words that can stand here"), suggestion(unknown, known))
    } else if message.starts_with("missing field") {
        Mistake::new(span, format!("the key `{unknown}` is missing here"), format!("add a line `{unknown} = …`"))
    } else {
        Mistake::new(span, message, form)
    }
}

/// What a misspelt word may have meant, and what there is.
pub(super) fn suggestion(unknown: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|word| (strsim::damerau_levenshtein(unknown, word), word))
        .min()
        .filter(|(distance, word)| *distance <= 1.max(word.len() / 3));
    let all = known.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    match (nearest, known.is_empty()) {
        (Some((_, word)), _) => format!("did you mean `{word}`? Possible are: {all}"),
        (None, false) => format!("possible are: {all}"),
        (None, true) => "the scenario has none".into(),
    }
}

/// The words in backquotes.
fn quoted(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}
