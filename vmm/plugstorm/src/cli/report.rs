//! `plugstorm report`: from the folders of runs to something to read.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{Failure, show};
use crate::known::KnownFindings;
use crate::report::{Format, Report, Sources, gather, is_origin};
use crate::results::{TEMPORARY_REPORT, is_of_disk, write_whole};

/// Standard output, where a file is asked for.
const DASH: &str = "-";

#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// Folders of runs, or folders that hold such ones, as `storm --runs` and `matrix` leave them.
    #[arg(value_name = "DIR", required = true)]
    folders: Vec<PathBuf>,
    /// What to write, with commas between.
    #[arg(long, value_enum, value_name = "FORMAT", value_delimiter = ',', default_value = "html")]
    format: Vec<Format>,
    /// Where to: a file (`-`: standard output), or a folder for several formats. Default: report.html, report.junit.xml,
    /// report.ktap, report.kcidb.json and report.md in the first DIR; annotations for GitHub go to standard output.
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    /// Findings that are accepted for now (README.md, "Reports"), instead of what `storm` was told.
    #[arg(long, value_name = "FILE")]
    known: Option<PathBuf>,
    /// The sender's name in the KCIDB report: a-z, 0-9 and _.
    #[arg(long, value_name = "NAME", default_value = "plugstorm", value_parser = parse_origin)]
    origin: String,
}

fn parse_origin(text: &str) -> Result<String, String> {
    if is_origin(text) { Ok(text.to_owned()) } else { Err("give a name of the letters a-z, digits and _".into()) }
}

pub(super) fn main(args: &ReportArgs) -> Result<u8, Failure> {
    let known = args.known.as_deref().map(KnownFindings::load).transpose()?;
    let mut formats = args.format.clone();
    formats.dedup();
    let places = formats.iter().map(|format| place(args, &formats, *format)).collect::<Result<Vec<_>, _>>()?;
    let gathered = gather(&args.folders).map_err(|error| Failure::user(&error))?;
    let report = Report::of(gathered, known.as_ref());
    for note in &report.unread {
        show::err(&format!("note: {note}\n"));
    }
    for account in &report.known {
        show::err(&format!("known: {account}\n"));
    }
    let sources = Sources::default();
    for (format, place) in formats.iter().zip(places) {
        let text = report
            .render(*format, &|run, line| sources.lines(run, line), &args.origin)
            .map_err(|error| Failure::machine(&error))?;
        match place {
            Some(file) => {
                write(&file, &text)?;
                let kib = text.len().div_ceil(1024);
                show::err(&format!("{}: {} ({kib} KiB)\n", format.name(), file.display()));
            }
            None => show::document(&text).map_err(|error| Failure::machine(&format!("standard output: {error}")))?,
        }
    }
    for note in sources.notes() {
        show::err(&format!("note: {note}\n"));
    }
    Ok(report.exit_code())
}

/// The file; none for standard output.
fn place(args: &ReportArgs, formats: &[Format], format: Format) -> Result<Option<PathBuf>, Failure> {
    let several = formats.len() > 1;
    let folder = match &args.out {
        Some(out) if out == Path::new(DASH) && several => {
            return Err(Failure::user(&"--out -: standard output has room for one format; give a folder"));
        }
        Some(out) if out == Path::new(DASH) => return Ok(None),
        Some(out) if !several && !out.is_dir() => return Ok(Some(out.clone())),
        Some(out) => out,
        None => match args.folders.first() {
            Some(first) => first,
            None => return Ok(None),
        },
    };
    Ok(format.file().map(|file| folder.join(file)))
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    let folder = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let written =
        fs::create_dir_all(folder).and_then(|()| write_whole(folder, TEMPORARY_REPORT, file, text.as_bytes()));
    written.map_err(|error| {
        let sentence = format!("{} cannot be written: {error}; name another place with --out", file.display());
        if is_of_disk(&error) { Failure::machine(&sentence) } else { Failure::user(&sentence) }
    })
}
