//! `plugstorm splat`: the detector over saved console logs, with files and lines where there is debug information.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;

use plugstorm_observe::splat::{Detector, Splat};
use serde_json::json;

use super::{Failure, SplatArgs, show};
use crate::report::visible;
use crate::symbols::{LogFacts, SymbolError, Symbolizer};
use crate::verdict::{EXIT_CLEAN, EXIT_FOUND, EXIT_USER, worst};

/// Before the lines of a report: no line of a guest's begins a line of ours, which a terminal or a workflow's runner might obey.
const MARGIN: &str = "  | ";
/// Read at once.
const PIECE_BYTES: usize = 64 * 1024;
/// Standard input, where a file is asked for.
const DASH: &str = "-";

pub(super) fn main(args: &SplatArgs) -> Result<u8, Failure> {
    let mut symbols = symbolizer(args).map_err(|error| Failure::user(&error))?;
    let mut said = Said::default();
    said.note(symbols.as_ref().map(Symbolizer::notes));
    let code = worst(args.files.iter().map(|file| one(file, args.json, symbols.as_mut(), &mut said)));
    // What came out only when it was asked for.
    said.note(symbols.as_ref().map(Symbolizer::notes));
    Ok(code)
}

fn symbolizer(args: &SplatArgs) -> Result<Option<Symbolizer>, SymbolError> {
    match &args.kernel {
        Some(name) => Symbolizer::for_kernel(name, &args.module).map(Some),
        None if args.vmlinux.is_none() && args.module.is_empty() => Ok(None),
        None => Symbolizer::open(args.vmlinux.as_deref(), &args.module).map(Some),
    }
}

/// Notes that were printed: of many logs the same may be to be said.
#[derive(Default)]
struct Said(BTreeSet<String>);

impl Said {
    fn note(&mut self, sentences: Option<Vec<String>>) {
        for sentence in sentences.into_iter().flatten() {
            if !self.0.contains(&sentence) {
                show::err(&format!("note: {sentence}\n"));
                self.0.insert(sentence);
            }
        }
    }
}

fn one(file: &Path, json: bool, symbols: Option<&mut Symbolizer>, said: &mut Said) -> u8 {
    let name = file.display().to_string();
    let mut found = false;
    let read = log(file, symbols, said).and_then(|(log, symbols)| {
        detect(log, |splat| {
            found = true;
            show::out(&if json {
                format!("{}\n", object(&name, &splat, symbols))
            } else {
                text(&name, &splat, symbols)
            });
        })
    });
    if let Err(error) = read {
        show::err(&format!("plugstorm: cannot read the console log {name}: {error}\n"));
        return EXIT_USER;
    }
    if found {
        return EXIT_FOUND;
    }
    show::out(&if json {
        format!("{}\n", json!({ "file": name, "title": null }))
    } else {
        format!("{name}: no splat\n")
    });
    EXIT_CLEAN
}

/// The log, from its beginning. For symbols it is read once before: what says which kernel it is of, and how far that was moved, may
/// stand after the reports. Standard input is kept in a file for that.
fn log<'a>(
    file: &Path,
    symbols: Option<&'a mut Symbolizer>,
    said: &mut Said,
) -> io::Result<(Box<dyn Read>, Option<&'a Symbolizer>)> {
    let is_input = file == Path::new(DASH);
    let Some(symbols) = symbols else {
        return Ok((if is_input { Box::new(io::stdin().lock()) } else { Box::new(File::open(file)?) }, None));
    };
    let mut log = if is_input {
        let mut kept = tempfile::tempfile()?;
        io::copy(&mut io::stdin().lock(), &mut kept)?;
        kept.rewind()?;
        kept
    } else {
        File::open(file)?
    };
    said.note(Some(symbols.compare(&LogFacts::of(&mut BufReader::new(&log))?)));
    log.rewind()?;
    Ok((Box::new(log), Some(symbols)))
}

/// Hands each report to `sink` as soon as it is over, and holds no more of the log than the detector does: a log may be
/// longer than memory, and may be of a console that runs.
fn detect(mut log: impl Read, mut sink: impl FnMut(Splat)) -> io::Result<()> {
    let mut detector = Detector::for_log();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match log.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => detector.push(piece.get(..count).unwrap_or_default(), &mut sink),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    detector.finish(sink);
    Ok(())
}

fn object(file: &str, splat: &Splat, symbols: Option<&Symbolizer>) -> serde_json::Value {
    let mut object = json!({
        "file": file,
        "title": splat.title,
        "alt_titles": splat.alt_titles,
        "kind": splat.kind,
        "corrupted": splat.corrupted,
        "suppressed": splat.suppressed,
        "panicked": splat.panicked,
        "frame": splat.frame,
        "task": splat.task,
        "pid": splat.pid,
        "executor": splat.executor,
        "start_line": splat.start_line.saturating_add(1),
        "end_line": splat.end_line.saturating_add(1),
    });
    if let (Some(symbols), Some(fields)) = (symbols, object.as_object_mut()) {
        fields.insert("frames".into(), json!(symbols.report_frames(&splat.text)));
    }
    object
}

fn text(file: &str, splat: &Splat, symbols: Option<&Symbolizer>) -> String {
    let sentence = sentence(file, splat);
    let Some(symbols) = symbols else { return sentence };
    let report = symbols.annotate(&splat.text);
    let report: String =
        report.lines().map(|line| format!("{MARGIN}{}", visible(line)).trim_end().to_owned() + "\n").collect();
    format!("{sentence}{report}")
}

fn sentence(file: &str, splat: &Splat) -> String {
    let kind =
        serde_json::to_value(splat.kind).ok().and_then(|kind| kind.as_str().map(str::to_owned)).unwrap_or_default();
    // As editors and grep count them.
    let [first, last] = [splat.start_line, splat.end_line].map(|line| line.saturating_add(1));
    format!("{file}:{first}-{last}: {} [{kind}]\n", visible(&splat.title))
}
