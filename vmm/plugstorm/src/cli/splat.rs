//! `plugstorm splat`: the detector over saved console logs, with files and lines where there is debug information.

use std::collections::BTreeSet;
use std::path::Path;

use plugstorm_observe::splat::{Splat, detect};
use serde_json::json;

use super::{Failure, SplatArgs, show};
use crate::symbols::{LogFacts, SymbolError, Symbolizer};
use crate::verdict::{EXIT_CLEAN, EXIT_FOUND, EXIT_USER, worst};

/// Before the lines of a report.
const INDENT: &str = "    ";

pub(super) fn main(args: &SplatArgs) -> Result<u8, Failure> {
    let mut symbols = symbolizer(args).map_err(|error| Failure::user(&error))?;
    let mut said = BTreeSet::new();
    note(&mut said, symbols.as_ref().map(Symbolizer::notes));
    let code = worst(args.files.iter().map(|file| one(file, args.json, symbols.as_mut(), &mut said)));
    // What came out only when it was asked for.
    note(&mut said, symbols.as_ref().map(Symbolizer::notes));
    Ok(code)
}

fn symbolizer(args: &SplatArgs) -> Result<Option<Symbolizer>, SymbolError> {
    match &args.kernel {
        Some(name) => Symbolizer::for_kernel(name, &args.module).map(Some),
        None if args.vmlinux.is_none() && args.module.is_empty() => Ok(None),
        None => Symbolizer::open(args.vmlinux.as_deref(), &args.module).map(Some),
    }
}

/// Says what was not said before: of many logs the same may be to be said.
fn note(said: &mut BTreeSet<String>, sentences: Option<Vec<String>>) {
    for sentence in sentences.into_iter().flatten() {
        if !said.contains(&sentence) {
            show::err(&format!("note: {sentence}\n"));
            said.insert(sentence);
        }
    }
}

fn one(file: &Path, json: bool, symbols: Option<&mut Symbolizer>, said: &mut BTreeSet<String>) -> u8 {
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) => {
            show::err(&format!("plugstorm: cannot read the console log {}: {error}\n", file.display()));
            return EXIT_USER;
        }
    };
    let splats = detect(&bytes);
    let name = file.display().to_string();
    if splats.is_empty() {
        show::out(&if json {
            format!("{}\n", json!({ "file": name, "title": null }))
        } else {
            format!("{name}: no splat\n")
        });
        return EXIT_CLEAN;
    }
    let symbols = symbols.map(|symbols| {
        note(said, Some(symbols.compare(&LogFacts::read(&String::from_utf8_lossy(&bytes)))));
        &*symbols
    });
    for splat in &splats {
        show::out(&if json { format!("{}\n", object(&name, splat, symbols)) } else { text(&name, splat, symbols) });
    }
    EXIT_FOUND
}

fn object(file: &str, splat: &Splat, symbols: Option<&Symbolizer>) -> serde_json::Value {
    let mut object = json!({
        "file": file,
        "title": splat.title,
        "alt_titles": splat.alt_titles,
        "kind": splat.kind,
        "corrupted": splat.corrupted,
        "start_line": splat.start_line,
        "end_line": splat.end_line,
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
    let report: String = report.lines().map(|line| format!("{INDENT}{line}").trim_end().to_owned() + "\n").collect();
    format!("{sentence}{report}")
}

fn sentence(file: &str, splat: &Splat) -> String {
    let kind =
        serde_json::to_value(splat.kind).ok().and_then(|kind| kind.as_str().map(str::to_owned)).unwrap_or_default();
    format!("{file}:{}-{}: {} [{kind}]\n", splat.start_line, splat.end_line, splat.title)
}
