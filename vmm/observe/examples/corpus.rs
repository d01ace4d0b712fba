//! Runs the detector over a directory of console logs with the reports expected of them, and says how well it did.
//!
//! `cargo run -p plugstorm-observe --example corpus -- DIRECTORY [-v]`
//!
//! A file begins with header lines (`TITLE:`, `ALT:`, `TYPE:`, `CORRUPTED:`, `PANICKED:`, …; `#` begins a comment), then an
//! empty line, then the log, up to a line `REPORT:` if there is one. A file without `TITLE:` must yield no report.

use std::path::PathBuf;
use std::process::ExitCode;

use plugstorm_observe::splat::{Splat, SplatKind, detect};

#[derive(Default)]
struct Expected {
    title: Option<String>,
    kind: Option<String>,
    corrupted: bool,
    panicked: bool,
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
            Some(("TITLE", title)) => expected.title = Some(title.to_owned()),
            Some(("TYPE", kind)) => expected.kind = Some(kind.to_owned()),
            Some(("CORRUPTED", flag)) => expected.corrupted = flag == "Y",
            Some(("PANICKED", flag)) => expected.panicked = flag == "Y",
            _ => {}
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
    let (mut reports, mut titles, mut kinds, mut corrupted, mut panicked) = (0, 0, 0, 0, 0);
    let (mut negatives, mut false_alarms) = (0, 0);
    for path in &files {
        let Ok(file) = std::fs::read(path) else { continue };
        let (expected, log) = split(&file);
        let found = detect(log);
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let Some(title) = &expected.title else {
            negatives += 1;
            if let Some(splat) = found.first() {
                false_alarms += 1;
                println!("{name}: false alarm: {}", splat.title);
            }
            continue;
        };
        reports += 1;
        let first: Option<&Splat> = found.first();
        let right_title = first.is_some_and(|splat| splat.title == *title);
        let kind = first.and_then(|splat| corpus_word(splat.kind));
        let wanted_kind = expected.kind.as_ref().map(|kind| kind.to_lowercase().replace('_', "-"));
        let right_kind = first.is_some() && kind == wanted_kind;
        let right_corrupted = first.is_some_and(|splat| splat.corrupted.is_some() == expected.corrupted);
        let right_panicked = first.is_some_and(|splat| splat.panicked == expected.panicked);
        titles += u32::from(right_title);
        kinds += u32::from(right_kind);
        corrupted += u32::from(right_corrupted);
        panicked += u32::from(right_panicked);
        if !right_title {
            println!("{name}: title: {}\n    wanted: {title}", first.map_or("none", |splat| splat.title.as_str()));
        }
        if verbose && !right_kind {
            println!("{name}: kind {kind:?}, wanted {wanted_kind:?} ({title})");
        }
        if verbose && !right_corrupted {
            let reason = first.and_then(|splat| splat.corrupted.as_deref());
            println!("{name}: corrupted {reason:?}, wanted {} ({title})", expected.corrupted);
        }
        if verbose && !right_panicked {
            println!("{name}: panicked wanted {} ({title})", expected.panicked);
        }
    }
    let share = |right: u32| f64::from(right) * 100.0 / f64::from(reports.max(1));
    println!(
        "{reports} files with a report: titles {titles} ({:.1} %), kinds {kinds} ({:.1} %), corrupted flags {corrupted} ({:.1} %), panicked flags {panicked} ({:.1} %)",
        share(titles),
        share(kinds),
        share(corrupted),
        share(panicked)
    );
    println!("{negatives} files without: {false_alarms} false alarms");
    ExitCode::SUCCESS
}
