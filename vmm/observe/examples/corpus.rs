//! Runs the detector over a directory of console logs with the reports expected of them, and says how well it did.
//!
//! `cargo run -p plugstorm-observe --example corpus -- DIRECTORY [-v]`
//!
//! A file begins with header lines (`TITLE:`, `ALT:`, `TYPE:`, `CORRUPTED:`, `PANICKED:`, …; `#` begins a comment), then an
//! empty line, then the log, up to a line `REPORT:` if there is one. A file without `TITLE:` must yield no report. Without
//! `-v` only titles that are wrong and false alarms are shown.
//!
//! What is left on the quarter of syzkaller's test data that we have, of 187 files:
//!
//! | File | Field | Why |
//! |------|-------|-----|
//! | 208 | title, kind | A dump of fault injection was printed into lockdep's header. syzkaller then takes the line as a plain `WARNING` without frame; we say that it is lockdep's, and that its frame is lost (as syzkaller does in file 244, which differs by a line). |

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;

use plugstorm_observe::splat::{Splat, SplatKind, detect};

/// What a file says of its log.
#[derive(Default)]
struct Expected {
    fields: BTreeMap<String, String>,
    alt_titles: BTreeSet<String>,
}

impl Expected {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    fn flag(&self, name: &str) -> bool {
        self.field(name) == Some("Y")
    }
}

fn split(file: &[u8]) -> (Expected, &[u8]) {
    let mut expected = Expected::default();
    let mut rest = file;
    while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
        let (line, tail) = rest.split_at(end);
        rest = tail.get(1..).unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        match line.split_once(": ") {
            _ if line.is_empty() => break,
            _ if line.starts_with('#') => {}
            Some(("ALT", title)) => drop(expected.alt_titles.insert(title.to_owned())),
            Some((name, value)) => drop(expected.fields.insert(name.to_owned(), value.to_owned())),
            None => {}
        }
    }
    let log_ends = rest.windows(9).position(|window| window == b"\nREPORT:\n").map_or(rest.len(), |at| at + 1);
    (expected, rest.get(..log_ends).unwrap_or(rest))
}

/// The kind in the words of the corpus: nothing for `unknown`.
fn corpus_word(kind: SplatKind) -> Option<String> {
    let word = serde_json::to_value(kind).ok()?.as_str()?.to_owned();
    (word != "unknown").then_some(word)
}

/// One field of one file: its name, what was found and what was wanted; nothing if the file says nothing of it.
type Compared = (&'static str, Option<(String, String)>);

fn compare(expected: &Expected, found: Option<&Splat>, log: &[u8]) -> Vec<Compared> {
    let shown = |text: Option<&str>| text.unwrap_or("none").to_owned();
    let flag = |name: &str, found: bool| Some((found.to_string(), expected.flag(name).to_string()));
    let raw = |line: u64| {
        let line = log.split(|&byte| byte == b'\n').nth(usize::try_from(line).ok()?)?;
        Some(String::from_utf8_lossy(line).trim_end().to_owned())
    };
    // Fields that most files leave out say nothing where they do.
    let given = |name: &str, found: Option<String>| Some((shown(found.as_deref()), expected.field(name)?.to_owned()));
    let alt_titles: BTreeSet<String> =
        found.map(|splat| splat.alt_titles.iter().cloned().collect()).unwrap_or_default();
    let kind = expected.field("TYPE").map(|kind| kind.to_lowercase().replace('_', "-"));
    vec![
        ("title", Some((shown(found.map(|splat| splat.title.as_str())), shown(expected.field("TITLE"))))),
        ("alternative titles", Some((format!("{alt_titles:?}"), format!("{:?}", expected.alt_titles)))),
        ("kind", Some((shown(found.and_then(|splat| corpus_word(splat.kind)).as_deref()), shown(kind.as_deref())))),
        ("corrupted", flag("CORRUPTED", found.is_some_and(|splat| splat.corrupted.is_some()))),
        ("suppressed", flag("SUPPRESSED", found.is_some_and(|splat| splat.suppressed.is_some()))),
        ("panicked", flag("PANICKED", found.is_some_and(|splat| splat.panicked))),
        ("frame", given("FRAME", found.and_then(|splat| splat.frame.clone()))),
        ("executor", given("EXECUTOR", found.and_then(|splat| splat.executor.clone()))),
        ("start", given("START", found.and_then(|splat| raw(splat.start_line)))),
        ("end", given("END", found.and_then(|splat| raw(splat.end_line)))),
    ]
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(directory) = arguments.next() else {
        eprintln!("usage: corpus DIRECTORY [-v]");
        return ExitCode::FAILURE;
    };
    let verbose = arguments.next().is_some();
    let mut files: Vec<PathBuf> = match std::fs::read_dir(&directory) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(error) => {
            eprintln!("cannot read {directory}: {error}");
            return ExitCode::FAILURE;
        }
    };
    files.retain(|path| path.extension().is_none_or(|extension| extension != "md"));
    files.sort();
    let (mut negatives, mut false_alarms) = (0, 0);
    // Right, and given, by field, in the order of `compare`.
    let mut scores: Vec<(&str, u32, u32)> = Vec::new();
    for path in &files {
        let Ok(file) = std::fs::read(path) else { continue };
        let (expected, log) = split(&file);
        let found = detect(log);
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let Some(title) = expected.field("TITLE") else {
            negatives += 1;
            if let Some(splat) = found.first() {
                false_alarms += 1;
                println!("{name}: false alarm: {}", splat.title);
            }
            continue;
        };
        for (at, (field, compared)) in compare(&expected, found.first(), log).into_iter().enumerate() {
            if scores.len() == at {
                scores.push((field, 0, 0));
            }
            let (Some((found, wanted)), Some((_, right, given))) = (compared, scores.get_mut(at)) else { continue };
            *given += 1;
            *right += u32::from(found == wanted);
            if found != wanted && (verbose || field == "title") {
                println!("{name}: {title}\n    {field}: {found}\n    wanted: {wanted}");
            }
        }
    }
    for (field, right, given) in scores {
        let share = f64::from(right) * 100.0 / f64::from(given.max(1));
        println!("{field}: {right} of {given} ({share:.1} %)");
    }
    println!("{negatives} files without a report: {false_alarms} false alarms");
    ExitCode::SUCCESS
}
