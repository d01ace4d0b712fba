//! The line that runs it again.

use std::fmt::Write as _;
use std::path::Path;

use crate::results::RunResult;
use crate::scenario::{Design, Until};

/// A command line with the same stimulus as a run had: scenario, seed, kernel, and what was said instead of the scenario's.
#[must_use]
pub fn command(result: &RunResult) -> String {
    // Of an earlier version, which kept no more than the name.
    let file = result.origin.as_ref().map_or_else(|| format!("{}.toml", result.scenario), |origin| origin.file.clone());
    let mut words =
        format!("plugstorm storm {} --seed {} --kernel {}", quoted(&file), result.seed, quoted(&result.guest.kernel));
    let (design, cycles, until) = match &result.origin {
        Some(origin) => (origin.design, origin.cycles, origin.until),
        None => (only_design(result), Some(result.cycles.asked), None),
    };
    // Writing to a string cannot fail.
    if let Some(design) = design {
        let _ = write!(words, " --design {}", design.name());
    }
    if let Some(cycles) = cycles {
        let _ = write!(words, " --cycles {cycles}");
    }
    if let Some(until) = until.map(Until::name) {
        let _ = write!(words, " --until {until}");
    }
    words
}

/// The file's name, for what was run.
pub(super) fn file_name(result: &RunResult) -> String {
    let file = result.origin.as_ref().map(|origin| Path::new(&origin.file));
    let name = file.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| format!("{}.toml", result.scenario))
}

/// The design of all devices that have one, if it is one.
fn only_design(result: &RunResult) -> Option<Design> {
    let mut designs = result.devices.iter().filter_map(|device| device.design);
    let first = designs.next()?;
    designs.all(|design| design == first).then_some(first)
}

/// A word, as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_-./:=+,@%".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn the_command_line_says_what_the_run_said() {
        let mut result = sample::hang_and_splat();
        assert_eq!(
            command(&result),
            "plugstorm storm fixtures/scenarios/lab/sleeping-reader-own.toml --seed 7 --kernel debian-6.12 --design stack-token \
             --cycles 20 --until first-finding"
        );
        if let Some(origin) = &mut result.origin {
            (origin.design, origin.cycles, origin.until) = (None, None, None);
            origin.file = "my scenarios/it's.toml".into();
        }
        assert_eq!(command(&result), r"plugstorm storm 'my scenarios/it'\''s.toml' --seed 7 --kernel debian-6.12");
        result.origin = None;
        assert_eq!(
            command(&result),
            "plugstorm storm sleeping-reader-own.toml --seed 7 --kernel debian-6.12 --design stack-token --cycles 20"
        );
    }
}
