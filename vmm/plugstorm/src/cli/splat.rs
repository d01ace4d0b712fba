//! `plugstorm splat`: the detector over saved console logs.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use plugstorm_observe::splat::{Detector, Splat};
use serde_json::json;

use super::{SplatArgs, show};
use crate::verdict::{EXIT_CLEAN, EXIT_FOUND, EXIT_USER, worst};

/// Read at once.
const PIECE_BYTES: usize = 64 * 1024;

pub(super) fn main(args: &SplatArgs) -> u8 {
    worst(args.files.iter().map(|file| one(file, args.json)))
}

fn one(file: &Path, json: bool) -> u8 {
    let name = file.display().to_string();
    let mut found = false;
    let read = read(file, |splat| {
        found = true;
        show::out(&if json { format!("{}\n", object(&name, &splat)) } else { sentence(&name, &splat) });
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

/// Hands each report to `sink` as soon as it is over, and holds no more of the log than the detector does: a log may be
/// longer than memory, and `-` may be a console that runs.
fn read(file: &Path, mut sink: impl FnMut(Splat)) -> io::Result<()> {
    let mut log: Box<dyn Read> =
        if file == Path::new("-") { Box::new(io::stdin().lock()) } else { Box::new(File::open(file)?) };
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

fn object(file: &str, splat: &Splat) -> serde_json::Value {
    json!({
        "file": file,
        "title": splat.title,
        "alt_titles": splat.alt_titles,
        "kind": splat.kind,
        "corrupted": splat.corrupted,
        "start_line": splat.start_line,
        "end_line": splat.end_line,
    })
}

fn sentence(file: &str, splat: &Splat) -> String {
    let kind =
        serde_json::to_value(splat.kind).ok().and_then(|kind| kind.as_str().map(str::to_owned)).unwrap_or_default();
    format!("{file}:{}-{}: {} [{kind}]\n", splat.start_line, splat.end_line, splat.title)
}
