//! `plugstorm splat`: the detector over saved console logs.

use std::path::Path;

use plugstorm_observe::splat::{Splat, detect};
use serde_json::json;

use super::{SplatArgs, show};
use crate::verdict::{EXIT_CLEAN, EXIT_FOUND, EXIT_USER, worst};

pub(super) fn main(args: &SplatArgs) -> u8 {
    worst(args.files.iter().map(|file| one(file, args.json)))
}

fn one(file: &Path, json: bool) -> u8 {
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
    for splat in &splats {
        show::out(&if json { format!("{}\n", object(&name, splat)) } else { sentence(&name, splat) });
    }
    EXIT_FOUND
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
