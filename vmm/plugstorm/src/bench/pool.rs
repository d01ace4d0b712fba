//! `samples.jsonl` as it is read back: a file that somebody gives us, and that a killed run may have left half written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use super::journal::SAMPLES;
use super::model::{BOOT, Header, LOST, Measurement, Side, VERSION};
use super::request::plain;
use crate::summary::count;

/// A longer line is none of ours, in bytes: a measure has some thousand samples.
const MOST_LINE_BYTES: u64 = 4 << 20;
/// Lines of a file: a thousand boots of a thousand measures.
const MOST_LINES: usize = 1_000_000;
/// Samples of a file. They are kept, 24 bytes each.
const MOST_SAMPLES: usize = 40_000_000;

/// All that a benchmark's completed boots gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// What was measured where.
    pub header: Header,
    /// In the order of the file.
    pub measurements: Vec<Measurement>,
    /// Boots that came to nothing: their guests died, complained or said no more. Each time counts, whether or not a later try succeeded.
    pub lost: Vec<Measurement>,
    /// What was not taken, a sentence each.
    pub left_out: Vec<String>,
}

/// Why samples cannot be read. The message names the file, what is wrong, and the way out.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PoolError {
    /// The system does not give it.
    #[error("{} cannot be read: {source}", file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is no benchmark's samples: its first line is no header; give a folder that `plugstorm bench` has written, or the {SAMPLES} in it", file.display())]
    Foreign {
        /// Which.
        file: PathBuf,
    },
    /// It is of another program.
    #[error("{} is of version {version}, and this plugstorm reads version {VERSION}: read it with the one that wrote it, or measure again", file.display())]
    Version {
        /// Which.
        file: PathBuf,
        /// Its version.
        version: u32,
    },
    /// A line in its middle is no measurement.
    #[error("{}, line {line}: {what}; remove the line, or measure again", file.display())]
    Line {
        /// Which.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// It is larger than any benchmark.
    #[error("{} has more than {most} {what}, which is more than is read; split it by boots", file.display())]
    Large {
        /// Which.
        file: PathBuf,
        /// How many are taken.
        most: usize,
        /// Of what.
        what: &'static str,
    },
}

/// Reads the samples of a benchmark: its folder, or the file. A torn last line, of a run that was killed, is left out, and so are
/// boots that were not completed.
///
/// # Errors
/// [`PoolError`].
pub fn read(path: &Path) -> Result<Pool, PoolError> {
    let file = if path.is_dir() { path.join(SAMPLES) } else { path.to_path_buf() };
    let opened = File::open(&file).map_err(|source| PoolError::Unreadable { file: file.clone(), source })?;
    Reader { file, lines: BufReader::new(opened), line: 0 }.pool()
}

/// The same of bytes; `name` is for messages.
///
/// # Errors
/// [`PoolError`].
pub fn parse(name: &Path, bytes: &[u8]) -> Result<Pool, PoolError> {
    Reader { file: name.to_path_buf(), lines: bytes, line: 0 }.pool()
}

/// What any version's header has.
#[derive(Deserialize)]
struct AnyHeader {
    version: u32,
}

struct Reader<R> {
    file: PathBuf,
    lines: R,
    /// Counted from 1.
    line: usize,
}

impl<R: BufRead> Reader<R> {
    fn pool(mut self) -> Result<Pool, PoolError> {
        let header = self.header()?;
        let mut left_out = Vec::new();
        let (mut measurements, mut lost): (Vec<Measurement>, Vec<Measurement>) = (Vec::new(), Vec::new());
        let (mut samples, mut ended) = (0, BTreeSet::new());
        while let Some(line) = self.next()? {
            if self.line > MOST_LINES {
                return Err(PoolError::Large { file: self.file, most: MOST_LINES, what: "lines" });
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            match serde_json::from_slice::<Measurement>(&line) {
                Ok(measurement) => {
                    samples += measurement.samples.len();
                    if samples > MOST_SAMPLES {
                        return Err(PoolError::Large { file: self.file, most: MOST_SAMPLES, what: "samples" });
                    }
                    if !header.sides.contains_key(&measurement.side) {
                        let side = measurement.side.letter();
                        return Err(self.wrong(format!("it is of side {side}, which the header does not have")));
                    }
                    if measurement.measure.kind == BOOT && !ended.insert(measurement.boot) {
                        return Err(self.wrong(format!("boot {} is there twice", measurement.boot)));
                    }
                    let is_lost = measurement.measure.kind == LOST;
                    if is_lost { &mut lost } else { &mut measurements }.push(measurement);
                }
                // Written in one go with its line feed: without it, the writer was killed.
                Err(_) if line.last() != Some(&b'\n') => {
                    left_out.push(format!("the last line, {}, is torn: the run that wrote it was killed", self.line));
                }
                Err(error) => return Err(self.wrong(format!("it is no measurement ({error})"))),
            }
        }
        self.one_side_each(&measurements)?;
        let all: BTreeSet<u32> = measurements.iter().map(|of| of.boot).collect();
        match all.difference(&ended).count() {
            0 => {}
            1 => left_out.push("1 boot was not completed: what it has does not count".to_owned()),
            n => left_out.push(format!("{n} boots were not completed: what they have does not count")),
        }
        measurements.retain(|of| ended.contains(&of.boot));
        left_out.extend(header.sides.keys().filter_map(|side| lost_words(&lost, *side)));
        Ok(Pool { header, measurements, lost, left_out })
    }

    fn header(&mut self) -> Result<Header, PoolError> {
        let foreign = || PoolError::Foreign { file: self.file.clone() };
        let (file, foreign) = (self.file.clone(), foreign());
        let Some(line) = self.next()? else { return Err(foreign) };
        // The version first: another one's header may have anything else.
        let version = match serde_json::from_slice::<AnyHeader>(&line) {
            Ok(AnyHeader { version }) => version,
            Err(_) => return Err(foreign),
        };
        if version != VERSION {
            return Err(PoolError::Version { file, version });
        }
        serde_json::from_slice(&line).map_err(|_| foreign)
    }

    /// The next line, with its line feed if it has one; nothing at the end.
    fn next(&mut self) -> Result<Option<Vec<u8>>, PoolError> {
        let mut line = Vec::new();
        let read = (&mut self.lines).take(MOST_LINE_BYTES + 1).read_until(b'\n', &mut line);
        read.map_err(|source| PoolError::Unreadable { file: self.file.clone(), source })?;
        self.line += 1;
        if line.len() as u64 > MOST_LINE_BYTES {
            return Err(self.wrong(format!("it is longer than {} MiB", MOST_LINE_BYTES >> 20)));
        }
        Ok((!line.is_empty()).then_some(line))
    }

    fn one_side_each(&self, measurements: &[Measurement]) -> Result<(), PoolError> {
        let mut sides: BTreeMap<u32, Side> = BTreeMap::new();
        for (at, of) in measurements.iter().enumerate() {
            if *sides.entry(of.boot).or_insert(of.side) != of.side {
                let what = format!("boot {} is of both sides", of.boot);
                // The header is line 1.
                return Err(PoolError::Line { file: self.file.clone(), line: at + 2, what });
            }
        }
        Ok(())
    }

    fn wrong(&self, what: String) -> PoolError {
        PoolError::Line { file: self.file.clone(), line: self.line, what }
    }
}

/// What is said of a side's lost boots; nothing if there are none.
fn lost_words(lost: &[Measurement], side: Side) -> Option<String> {
    let of_side = || lost.iter().filter(|of| of.side == side);
    let why = of_side().next()?.error.as_deref().unwrap_or("it is not told why");
    let n = count(of_side().count() as u64, "boot");
    Some(format!("{n} of side {} came to nothing, the first since {}", side.letter(), plain(why)))
}

impl Pool {
    /// How many boots of this side came to nothing.
    #[must_use]
    pub fn lost(&self, side: Side) -> usize {
        self.lost.iter().filter(|of| of.side == side).count()
    }

    /// How many boots of this side were completed.
    #[must_use]
    pub fn boots(&self, side: Side) -> usize {
        let of_side = self.measurements.iter().filter(|of| of.side == side);
        of_side.map(|of| of.boot).collect::<BTreeSet<u32>>().len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::results::{Options, Results};
    use super::super::simulated;
    use super::*;

    fn text() -> Vec<u8> {
        simulated::text(&simulated::small())
    }

    fn of(bytes: &[u8]) -> Result<Pool, PoolError> {
        parse(Path::new("samples.jsonl"), bytes)
    }

    fn sentence(bytes: &[u8]) -> String {
        of(bytes).unwrap_err().to_string()
    }

    #[test]
    fn what_was_written_is_read() {
        let pool = of(&text()).unwrap();
        assert_eq!(pool, simulated::small());
        assert_eq!((pool.boots(Side::A), pool.boots(Side::B)), (8, 8));
    }

    #[test]
    fn a_torn_last_line_and_a_boot_without_its_end_are_left_out() {
        let whole = text();
        // The last line is the last boot's end.
        let pool = of(&whole[..whole.len() - 9]).unwrap();
        assert_eq!(pool.boots(Side::A) + pool.boots(Side::B), 15);
        let last = whole.iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(
            pool.left_out,
            [
                format!("the last line, {last}, is torn: the run that wrote it was killed"),
                "1 boot was not completed: what it has does not count".to_owned()
            ]
        );
        // Only the line feed is missing.
        assert_eq!(of(&whole[..whole.len() - 1]).unwrap(), simulated::small());
    }

    #[test]
    fn a_boot_that_came_to_nothing_is_remembered() {
        let mut whole = text();
        let lost = br#"{"boot":99,"side":"b","measure":{"kind":"lost","settings":{}},"samples":[],"error":"the guest\u001b panicked"}"#;
        whole.extend(lost.iter().chain(b"\n"));
        let pool = of(&whole).unwrap();
        assert_eq!((pool.lost(Side::A), pool.lost(Side::B)), (0, 1));
        assert_eq!(pool.left_out, ["1 boot of side b came to nothing, the first since the guest panicked"]);
        assert_eq!(pool.measurements, simulated::small().measurements);
    }

    #[test]
    fn what_is_wrong_is_said_in_a_sentence() {
        let whole = String::from_utf8(text()).unwrap();
        let other = whole.replacen("\"version\":1", "\"version\":2", 1);
        let broken = whole.replacen("\"samples\":[[", "\"samples\":[{", 1);
        let side = whole.replacen("\"side\":\"b\"", "\"side\":\"a\"", 1);
        let line = whole.replacen("\n", &format!("\n{}", "x".repeat(5 << 20)), 1);
        insta::assert_snapshot!(
            [other.as_bytes(), broken.as_bytes(), side.as_bytes(), line.as_bytes(), b"", b"\xff\n{}\n", b"{}\n"]
                .map(sentence)
                .join("\n")
        );
        let nowhere = read(Path::new("/nonexistent/samples.jsonl")).unwrap_err().to_string();
        assert!(nowhere.starts_with("/nonexistent/samples.jsonl cannot be read: "), "{nowhere}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// A file that was spoilt at any place is refused, or what is left of it is worked out.
        #[test]
        fn whatever_stands_there_it_ends(
            changes in prop::collection::vec((any::<prop::sample::Index>(), "[0-9e.,:\\[\\]{}\"a-z\n-]{0,12}"), 0..4),
            end in any::<prop::sample::Index>(),
        ) {
            let mut bytes = text();
            for (at, with) in changes {
                let at = at.index(bytes.len());
                let end = (at + with.len()).min(bytes.len());
                bytes.splice(at..end, with.into_bytes());
            }
            bytes.truncate(bytes.len() - end.index(bytes.len() / 3));
            if let Ok(pool) = of(&bytes) {
                let results = Results::of(pool, None, &Options { gate: Some(1.1), draws: 50, ..Options::default() });
                for format in super::super::formats::Format::ALL {
                    let _ = results.render(format, 80, "plugstorm").unwrap();
                }
                let _ = results.plots();
            }
        }

        #[test]
        fn bytes_that_are_no_file_of_ours_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(of(&bytes).is_err());
        }
    }
}
