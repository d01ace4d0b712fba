//! What is asked of our module for measuring, and what it answers (guest/module/bench.h).

use std::collections::BTreeMap;

use plugstorm_wire::MAX_REQUEST_BYTES;
use thiserror::Error;

use super::model::{Measure, Sample};

/// Samples of one measure that are taken; the module gives at most 4000.
const MOST_SAMPLES: usize = 8192;
/// Notes of one measure that are taken.
const MOST_NOTES: usize = 64;
/// A sentence of the module's is cut here, in characters.
const MOST_SENTENCE_CHARS: usize = 200;

/// Why there is no measure.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// A word that the module could not tell from others.
    #[error("`{0}` cannot be part of a measure: words of letters, digits and `-` can")]
    Word(String),
    /// Too long.
    #[error("a measure of {0} bytes is too long: the module takes {MAX_REQUEST_BYTES}")]
    Long(usize),
}

/// The request that has the module measure this.
///
/// # Errors
/// [`RequestError`].
pub fn request(measure: &Measure) -> Result<String, RequestError> {
    let kind = [("measure", measure.kind.as_str())];
    let design = measure.design.as_deref().map(|design| ("design", design));
    let settings = measure.settings.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let mut request = String::new();
    for (key, value) in kind.into_iter().chain(design).chain(settings) {
        for word in [key, value] {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            if word.is_empty() || !word.chars().all(is_plain) {
                return Err(RequestError::Word(word.to_owned()));
            }
        }
        if !request.is_empty() {
            request.push(' ');
        }
        request.extend([key, "=", value]);
    }
    if request.len() > MAX_REQUEST_BYTES {
        return Err(RequestError::Long(request.len()));
    }
    Ok(request)
}

/// What the module said of one measure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// In its order.
    pub samples: Vec<Sample>,
    /// By their names.
    pub notes: BTreeMap<String, String>,
    /// Why it could not measure.
    pub error: Option<String>,
    /// Lines that are none of these, and samples that were too many.
    pub strange: u64,
}

/// Reads the module's results. They are a guest's words: whatever they are, this ends, and keeps so many of them at most.
#[must_use]
pub fn answer(results: &str) -> Answer {
    let mut answer = Answer::default();
    for line in results.lines() {
        if let Some(error) = line.strip_prefix("error ") {
            answer.error.get_or_insert_with(|| plain(error));
        } else if let Some((key, value)) = line.strip_prefix("note ").and_then(|note| note.split_once(' ')) {
            if answer.notes.len() < MOST_NOTES {
                answer.notes.insert(plain(key), plain(value));
            }
        } else if let Some(sample) = line.parse().ok().filter(|_| answer.samples.len() < MOST_SAMPLES) {
            answer.samples.push(sample);
        } else {
            answer.strange += 1;
        }
    }
    answer
}

/// A guest's words, for a sentence of ours: without what drives a terminal, and not too long.
pub(super) fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MOST_SENTENCE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn measure(settings: &[(&str, &str)]) -> Measure {
        Measure {
            kind: "access".into(),
            design: Some("stack-token".into()),
            settings: settings.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect(),
        }
    }

    #[test]
    fn a_request_is_words() {
        let asked = request(&measure(&[("threads", "2"), ("context", "preempt-off")])).unwrap();
        assert_eq!(asked, "measure=access design=stack-token context=preempt-off threads=2");
    }

    #[test]
    fn what_would_be_another_request_is_refused() {
        for bad in ["", "2 rounds=9", "a=b", "é", "a\n"] {
            assert_eq!(request(&measure(&[("threads", bad)])), Err(RequestError::Word(bad.to_owned())));
        }
        let long = "x".repeat(MAX_REQUEST_BYTES);
        assert!(matches!(request(&measure(&[("threads", &long)])), Err(RequestError::Long(_))));
    }

    #[test]
    fn results_are_samples_notes_and_an_error() {
        let answer = answer("0 0 500 10\n0 1 510 10\nnote locked 4\nwhat\n1 0 0 0\n1 2 3\n1 2 3 4 5\n");
        assert_eq!(answer.samples.len(), 2);
        assert_eq!(answer.samples[1], Sample { round: 0, thread: 1, value: 510, count: 10 });
        assert_eq!(answer.notes["locked"], "4");
        assert_eq!((answer.error, answer.strange), (None, 4));
        let refused = super::answer("error the design is not atomic\nerror again\n");
        assert_eq!(refused.error.as_deref(), Some("the design is not atomic"));
    }

    proptest! {
        #[test]
        fn any_words_are_survived_and_bounded(results in "([0-9]{1,24}[ \n]|note |error |\\PC|\n){0,200}") {
            let answer = answer(&results);
            prop_assert!(answer.samples.len() <= MOST_SAMPLES && answer.notes.len() <= MOST_NOTES);
            prop_assert!(answer.samples.iter().all(|sample| sample.count > 0));
        }
    }
}
