//! `plugstorm bench --serve`: one guest that answers requests, for benchmarks whose time is the guest's. The lines are those of
//! `benches/guest/served.rs`.

use std::ffi::OsString;
use std::io::{self, BufRead, Read};

use super::BenchArgs;
use super::guests::Prepared;
use crate::bench::model::Side;
use crate::bench::request::Answer;
use crate::bench::run::Guests;
use crate::bench::session::{Session, SessionError};
use crate::cli::run::{interrupt, only_job};
use crate::cli::{Failure, absolute, show};
use crate::host::nested::{Job, forward, is_inside};
use crate::host::{self, Chosen, HostProbe};
use crate::verdict::{EXIT_CLEAN, EXIT_MACHINE};

/// The version of the lines.
const VERSION: u32 = 1;
/// A longer line is no request, in bytes.
const MOST_LINE_BYTES: u64 = 4096;

pub(super) fn main(args: &BenchArgs) -> Result<u8, Failure> {
    // The machine around this one has said it.
    if !is_inside() {
        show::out(&format!("plugstorm-bench {VERSION}\n"));
    }
    let found = Prepared::new(args).and_then(|prepared| {
        let chosen = host::choose(args.host).map_err(|error| Failure::machine(&error))?;
        Ok((prepared, chosen))
    });
    match found {
        Ok((prepared, Chosen::Kvm(probe))) => here(args, &prepared, &probe),
        Ok((prepared, Chosen::Nested { .. })) => nested(args, &prepared).or_else(|failure| Ok(skip(&failure))),
        Err(failure) => Ok(skip(&failure)),
    }
}

/// There can be no guest.
fn skip(failure: &Failure) -> u8 {
    show::out(&format!("skip {}\n", one_line(&failure.sentence())));
    EXIT_MACHINE
}

/// A guest on this machine's KVM.
fn here(args: &BenchArgs, prepared: &Prepared, probe: &HostProbe) -> Result<u8, Failure> {
    let interrupt = interrupt(false)?;
    let mut guests = prepared.guests();
    let (Some(mut guest), Some(facts)) = (guests.guest(Side::A), guests.facts(Side::A)) else {
        return Err(Failure::machine(&"there is no guest"));
    };
    let designs = args.wanted().designs;
    let mut console = io::sink();
    let begun = Session::begin(&mut *guest, facts, &designs, probe.slowdown, &interrupt, &mut console);
    let mut session = match begun {
        Ok(session) => session,
        Err(error) => return Ok(lost("skip", &error)),
    };
    let said = session.facts();
    let preemption = said.preemption.as_deref().unwrap_or("not told");
    let place = if is_inside() { "a nested machine" } else { "KVM" };
    show::out(&format!(
        "ready {}, HZ {}, preemption {preemption}, {} CPUs, in {place}\n",
        said.release, said.hz, said.cpus
    ));
    while let Some(request) = next_request() {
        match session.ask(&request) {
            Ok(answer) => show::out(&lines(&answer)),
            Err(error) => return Ok(lost("lost", &error)),
        }
    }
    match session.end() {
        Ok(None) => Ok(EXIT_CLEAN),
        Ok(Some(title)) => {
            show::out(&format!("lost the guest's kernel complained: {}\n", one_line(&title)));
            Ok(EXIT_MACHINE)
        }
        Err(error) => Ok(lost("lost", &error)),
    }
}

/// A guest in a nested machine: its lines are passed on.
fn nested(args: &BenchArgs, prepared: &Prepared) -> Result<u8, Failure> {
    let mut argv: Vec<OsString> = ["bench", "--serve", "--host", "kvm", "--cpus"].map(OsString::from).to_vec();
    argv.push(args.cpus.to_string().into());
    argv.extend(prepared.words(args.own_side(), "--kernel", "--modules"));
    let directory = absolute(&crate::cache::root())?;
    let batch = prepared.batch().stdin(true);
    only_job(batch.job(Job { argv, directory, environment: Vec::new() }).run(&mut forward)?)
}

/// The next line of standard input; nothing at its end.
fn next_request() -> Option<String> {
    let mut line = Vec::new();
    let read = io::stdin().lock().take(MOST_LINE_BYTES).read_until(b'\n', &mut line).ok()?;
    (read > 0).then(|| String::from_utf8_lossy(&line).trim_end().to_owned())
}

fn lines(answer: &Answer) -> String {
    let mut text = String::new();
    if let Some(error) = &answer.error {
        text.push_str(&format!("error {}\n", one_line(error)));
        return text;
    }
    for sample in &answer.samples {
        text.push_str(&format!("sample {sample}\n"));
    }
    for (key, value) in &answer.notes {
        text.push_str(&format!("note {key} {value}\n"));
    }
    text.push_str("done\n");
    text
}

fn lost(word: &str, error: &SessionError) -> u8 {
    show::out(&format!("{word} {}\n", one_line(&error.to_string())));
    EXIT_MACHINE
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::model::Sample;

    #[test]
    fn an_answer_is_lines() {
        let sample = Sample { round: 1, thread: 0, value: 500, count: 10 };
        let notes = [("locked".to_owned(), "4".to_owned())].into();
        let good = Answer { samples: vec![sample], notes, error: None, strange: 0 };
        assert_eq!(lines(&good), "sample 1 0 500 10\nnote locked 4\ndone\n");
        let bad = Answer { error: Some("not\natomic".into()), ..good };
        assert_eq!(lines(&bad), "error not atomic\n");
    }
}
