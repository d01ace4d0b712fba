//! What a user expects of cells, and which come out otherwise.
//!
//! ```toml
//! [shared-descriptor]                    # a scenario's name
//! unprotected = "found"                  # anything, hung removals included
//! shared-handle = "removal never ends: shared_handle_revoke *"
//! stack-token = "clean"
//! rwsem = "not-applicable"
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use super::model::Cell;
use super::outcome::{Came, Title};
use crate::scenario::Design;
use crate::wildcard;

/// Why a file of expectations cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExpectError {
    /// It cannot be read.
    #[error("the expectations {} cannot be read: {source}; give a file to --expect", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It is not what it should be.
    #[error("the expectations {} are wrong: {reason}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Why, and what to write.
        reason: String,
    },
}

/// What is expected of a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Expected {
    /// No run finds anything.
    Clean,
    /// At least one run finds something.
    Found,
    /// The same, and what runs find has one of these titles: `*` stands for anything.
    Titled(Vec<String>),
    /// The cell cannot be run.
    NotApplicable,
}

/// As it is written.
#[derive(Deserialize)]
#[serde(untagged, expecting = "\"clean\", \"found\", \"not-applicable\", a title, or several titles in brackets")]
enum Written {
    One(String),
    Several(Vec<String>),
}

/// What is expected of cells; of those that are not in it, nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expectations(Vec<(String, Design, Expected)>);

impl Expectations {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ExpectError`], with the way out.
    pub fn load(path: &Path) -> Result<Self, ExpectError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ExpectError::Unreadable { path: path.to_path_buf(), source })?;
        Self::parse(&text).map_err(|reason| ExpectError::Wrong { path: path.to_path_buf(), reason })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let table: BTreeMap<String, BTreeMap<String, Written>> =
            toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        let mut all = Vec::new();
        for (scenario, cells) in table {
            for (name, written) in cells {
                let Some(design) = Design::ALL.into_iter().find(|design| design.name() == name) else {
                    let known = Design::ALL.map(Design::name).join(", ");
                    return Err(format!("`{name}` below [{scenario}] is no design; there are {known}"));
                };
                let expected = match written {
                    Written::One(word) => match word.as_str() {
                        "clean" => Expected::Clean,
                        "found" => Expected::Found,
                        "not-applicable" => Expected::NotApplicable,
                        _ => Expected::Titled(vec![word]),
                    },
                    Written::Several(titles) => Expected::Titled(titles),
                };
                if matches!(&expected, Expected::Titled(titles) if titles.iter().all(|title| title.trim().is_empty())) {
                    return Err(format!(
                        "nothing is expected of `{name}` below [{scenario}]: leave it out, or say what"
                    ));
                }
                all.push((scenario.clone(), design, expected));
            }
        }
        Ok(Self(all))
    }

    /// Scenarios of which something is expected and none of these is.
    #[must_use]
    pub fn without(&self, scenarios: &[&str]) -> Vec<&str> {
        let mut missing: Vec<&str> = self.0.iter().map(|(scenario, ..)| scenario.as_str()).collect();
        missing.dedup();
        missing.retain(|scenario| !scenarios.contains(scenario));
        missing
    }

    /// What is otherwise than expected in a cell, as a sentence. None also where runs are missing that would decide it.
    #[must_use]
    pub fn differs(&self, cell: &Cell) -> Option<String> {
        let (.., expected) =
            self.0.iter().find(|(scenario, design, _)| *scenario == cell.scenario && *design == cell.design)?;
        let place = format!("{} with {}", cell.scenario, cell.design.name());
        match (&cell.not_applicable, expected) {
            (Some(_), Expected::NotApplicable) => return None,
            (Some(why), _) => return Some(format!("{place}: expected a verdict, and it is not applicable: {why}")),
            (None, Expected::NotApplicable) => {
                return Some(format!("{place}: expected not to be applicable, and it was run"));
            }
            (None, _) => {}
        }
        let tally = cell.tally();
        let (caught, verdicts) = (tally.caught(), tally.verdicts());
        let all_known = tally.pending + tally.inconclusive == 0;
        match expected {
            Expected::Clean => {
                let first = tally.titles.first()?;
                Some(format!("{place}: expected clean, and {caught} of {verdicts} found: {}", first.title))
            }
            Expected::Found => (caught == 0 && all_known)
                .then(|| format!("{place}: expected a finding, and {verdicts} of {verdicts} passed")),
            Expected::Titled(patterns) => {
                let other = cell.runs.iter().flatten().find_map(|came| match came {
                    Came::Found { titles, .. } if !titles.iter().any(|title| fits(patterns, title)) => titles.first(),
                    _ => None,
                });
                let wanted = patterns.join("` or `");
                match other {
                    Some(other) => Some(format!("{place}: expected `{wanted}`, and found: {}", other.title)),
                    None => (caught == 0 && all_known)
                        .then(|| format!("{place}: expected `{wanted}`, and {verdicts} of {verdicts} passed")),
                }
            }
            Expected::NotApplicable => None,
        }
    }
}

fn fits(patterns: &[String], title: &Title) -> bool {
    let mut titles = std::iter::once(&title.title).chain(&title.alt_titles);
    titles.any(|title| patterns.iter().any(|pattern| wildcard::fits(pattern, title)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{cell, found, hung};
    use super::*;

    fn parse(text: &str) -> Expectations {
        Expectations::parse(text).unwrap()
    }

    #[test]
    fn a_cell_is_compared_once_it_is_decided() {
        let of = |expected: &str, runs| {
            parse(&format!("[s]\nstack-token = {expected}\n")).differs(&cell("s", Design::StackToken, runs))
        };
        let passed = || Some(Came::Passed);
        let failed = || Some(Came::Inconclusive { reason: "no".into() });
        assert_eq!(of("\"clean\"", vec![passed(), passed(), None]), None);
        assert_eq!(
            of("\"clean\"", vec![passed(), found(3, "KASAN: x"), None]).unwrap(),
            "s with stack-token: expected clean, and 1 of 2 found: KASAN: x"
        );
        assert_eq!(of("\"found\"", vec![passed(), hung(3, "hang"), None]), None);
        assert_eq!(of("\"found\"", vec![passed(), None]), None);
        assert_eq!(of("\"found\"", vec![passed(), failed()]), None);
        assert!(of("\"found\"", vec![passed(), passed()]).unwrap().ends_with("expected a finding, and 2 of 2 passed"));
        assert_eq!(of("\"hang*\"", vec![passed(), hung(3, "hang in x")]), None);
        assert_eq!(of("[\"no\", \"* in x\"]", vec![hung(3, "hang in x")]), None);
        assert!(of("\"hang*\"", vec![found(3, "KASAN: x")]).unwrap().contains("expected `hang*`, and found: KASAN: x"));
        assert!(of("\"hang*\"", vec![passed()]).unwrap().contains("1 of 1 passed"));
        assert!(of("\"not-applicable\"", vec![passed()]).unwrap().contains("and it was run"));
        // Nothing is expected of other cells.
        assert_eq!(
            parse("[s]\nstack-token = \"clean\"\n").differs(&cell("t", Design::StackToken, vec![hung(1, "h")])),
            None
        );
        assert_eq!(parse("").differs(&cell("s", Design::StackToken, vec![hung(1, "h")])), None);
    }

    #[test]
    fn what_cannot_be_run_is_compared_too() {
        let mut cell = cell("s", Design::Unprotected, Vec::new());
        cell.not_applicable = Some("it has no timer".into());
        assert_eq!(parse("[s]\nunprotected = \"not-applicable\"\n").differs(&cell), None);
        let sentence = parse("[s]\nunprotected = \"found\"\n").differs(&cell).unwrap();
        assert!(sentence.contains("not applicable: it has no timer"), "{sentence}");
    }

    #[test]
    fn what_is_not_looked_at_is_known() {
        let all = parse("[one]\nunprotected = \"found\"\nrwsem = \"clean\"\n[two]\nrwsem = \"clean\"\n");
        assert_eq!(all.without(&["one", "three"]), ["two"]);
        assert!(all.without(&["two", "one"]).is_empty());
    }

    #[test]
    fn mistakes_are_told() {
        for (text, words) in [
            ("[s]\nstacktoken = \"clean\"\n", "`stacktoken` below [s] is no design; there are unprotected"),
            ("[s]\nstack-token = 3\n", "\"clean\", \"found\""),
            ("[s]\nstack-token = \"\"\n", "say what"),
            ("[s]\nstack-token = []\n", "say what"),
            ("[s\n", "line 1"),
        ] {
            let error = Expectations::parse(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn those_of_the_repository_are_sound() {
        let lab = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/scenarios/lab");
        let known: Vec<_> = super::super::lab::SCENARIOS.iter().map(|(name, _)| *name).chain(["no-pressure"]).collect();
        for file in ["expected.toml", "expected-stock.toml"] {
            let expectations = Expectations::load(&lab.join(file)).unwrap();
            assert!(!expectations.0.is_empty());
            for (scenario, ..) in &expectations.0 {
                assert!(known.contains(&scenario.as_str()), "{file}: [{scenario}] is no scenario of {known:?}");
            }
        }
    }
}
