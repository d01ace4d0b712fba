//! A guest in another process: `plugstorm bench --serve`, which runs it on this machine's KVM or in a nested machine.
//!
//! Lines of UTF-8 in both directions, each of at most 4096 bytes with its line feed. On the server's standard output, and nothing
//! else is there (what people are to see goes to standard error):
//!
//! ```text
//! plugstorm-bench 1                  first of all, from the process that was started: the version of these lines
//! skip SENTENCE                      there can be no guest on this machine, and why; the server ends, with any exit code
//! ready FACTS                        the guest is up; FACTS are one line for people: release, HZ, preemption model, CPUs, where it runs
//!
//! sample ROUND THREAD VALUE COUNT    of the request under way, as the module has them in `results`: decimal, one blank between
//! note KEY VALUE                     likewise
//! done                               the request is over, and has one sample at least
//! error SENTENCE                     it is over, and could not be measured; samples before it count for nothing. The guest goes on
//! lost SENTENCE                      at any time after `ready`: the guest is gone, or can no longer be trusted; the server ends
//! ```
//!
//! In the order `plugstorm-bench`, then `ready` or `skip`; after `ready`, for each request any number of `sample` and `note`, then
//! `done` or `error`. On its standard input, after `ready` and one at a time, requests as the module takes them, at most 255 bytes
//! and a line feed each:
//!
//! ```text
//! measure=access design=stack-token threads=1 objects=1 context=process rounds=8 loops=100000
//! ```
//!
//! The end of its standard input tells the server to power the guest off and end; it may also be killed at any time.
//!
//! A server that starts a nested machine passes its input to the job inside and the job's output on, and writes the first line
//! itself; so the job inside does not (or the outer one leaves it out).

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use plugstorm::bench::model::Sample;
use plugstorm_wire::MAX_REQUEST_BYTES;

use crate::Measured;
use crate::line::{Line, MOST_BYTES, VERSION, parse};

/// Samples of one measure: four times what the module gives, which refuses more than 4000 rounds and threads.
const MOST_SAMPLES: usize = 16_000;
/// Lines that wait to be looked at.
const LINES: usize = 64;
/// How often a server is looked at that is to end.
const TICK: Duration = Duration::from_millis(10);

/// How long a server may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From its start to the guest's being up.
    pub start: Duration,
    /// For one measure.
    pub measure: Duration,
    /// To end by itself, before it is killed.
    pub end: Duration,
}

impl Default for Limits {
    /// A nested machine's start has its own limit, ten times 90 s on a busy machine; the guest's boot in it is as long again. One
    /// measure is some seconds, there too.
    fn default() -> Self {
        Self { start: Duration::from_secs(1800), measure: Duration::from_secs(300), end: Duration::from_secs(20) }
    }
}

/// Why there is no guest (any more).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServedError {
    /// It cannot be had on this machine.
    #[error("{0}")]
    Skipped(String),
    /// The server could not be started.
    #[error("cannot start the server of the guest: {0}")]
    Start(#[from] io::Error),
    /// It speaks another language.
    #[error("the server of the guest speaks version {0} of its lines, not {VERSION}: build the benchmarks anew")]
    Version(u32),
    /// It ended before it should.
    #[error("the server of the guest ended ({status}) {when}; what it wrote to standard error says why")]
    Ended {
        /// How.
        status: String,
        /// At which time, as the end of a sentence.
        when: &'static str,
    },
    /// It says nothing.
    #[error("the server of the guest said nothing for {limit:?} {when}, and was ended")]
    Silent {
        /// How long.
        limit: Duration,
        /// At which time, as the end of a sentence.
        when: &'static str,
    },
    /// It says what it should not.
    #[error("the server of the guest said {line:?} {when}: that is none of its lines there")]
    Unexpected {
        /// Its beginning.
        line: String,
        /// At which time, as the end of a sentence.
        when: &'static str,
    },
    /// It has lost its guest.
    #[error("the guest was lost: {0}")]
    Lost(String),
}

/// A guest in another process, which ends with this.
#[derive(Debug)]
pub struct Served {
    child: Child,
    to: Option<ChildStdin>,
    /// None once nothing more is wanted: then the reader ends.
    lines: Option<Receiver<Vec<u8>>>,
    limits: Limits,
    facts: String,
    lost: Option<String>,
}

/// When something was said or not.
const AT_THE_START: &str = "before its guest was ready";
const IN_A_MEASURE: &str = "while it measured";

impl Served {
    /// Starts the server and waits until its guest is up.
    ///
    /// # Errors
    /// [`ServedError::Skipped`] if there can be none on this machine; others if there should be and is not.
    pub fn start(mut command: Command, limits: Limits) -> Result<Self, ServedError> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (to, output) = (child.stdin.take(), child.stdout.take());
        let (sender, lines) = sync_channel(LINES);
        // From here on the child is ended with this, whatever comes.
        let mut served = Self { child, to, lines: Some(lines), limits, facts: String::new(), lost: None };
        if let Some(output) = output {
            thread::Builder::new().name("served".to_owned()).spawn(move || read_lines(output, &sender))?;
        }
        let until = Instant::now() + limits.start;
        match served.hear(until, limits.start, AT_THE_START)? {
            Line::Version(VERSION) => {}
            Line::Version(other) => return Err(ServedError::Version(other)),
            other => return Err(unexpected(&other, AT_THE_START)),
        }
        match served.hear(until, limits.start, AT_THE_START)? {
            Line::Ready(facts) => served.facts = facts,
            Line::Skip(why) => return Err(ServedError::Skipped(why)),
            other => return Err(unexpected(&other, AT_THE_START)),
        }
        Ok(served)
    }

    /// What the guest is, in words for people.
    #[must_use]
    pub fn facts(&self) -> &str {
        &self.facts
    }

    /// The inner result is the measure's, the outer the server's.
    fn ask(&mut self, request: &str) -> Result<Result<Vec<Sample>, String>, ServedError> {
        let until = Instant::now() + self.limits.measure;
        if let Some(to) = &mut self.to {
            // Of a server that has ended, what it said last says why.
            let _ = to.write_all(format!("{request}\n").as_bytes()).and_then(|()| to.flush());
        }
        let mut samples = Vec::new();
        loop {
            match self.hear(until, self.limits.measure, IN_A_MEASURE)? {
                Line::Sample(sample) if samples.len() < MOST_SAMPLES => samples.push(sample),
                Line::Note => {}
                Line::Done if !samples.is_empty() => return Ok(Ok(samples)),
                Line::Error(sentence) => return Ok(Err(sentence)),
                // What is around the guest may have been lost, which would have been for a start without it.
                Line::Lost(sentence) | Line::Skip(sentence) => return Err(ServedError::Lost(sentence)),
                other => return Err(unexpected(&other, IN_A_MEASURE)),
            }
        }
    }

    /// The next line, which must come by then.
    fn hear(&mut self, until: Instant, limit: Duration, when: &'static str) -> Result<Line, ServedError> {
        let left = until.saturating_duration_since(Instant::now());
        let line = match self.lines.as_ref().map(|lines| lines.recv_timeout(left)) {
            Some(Ok(line)) => line,
            Some(Err(RecvTimeoutError::Timeout)) => return Err(ServedError::Silent { limit, when }),
            Some(Err(RecvTimeoutError::Disconnected)) | None => return Err(self.ended(when)),
        };
        let text = String::from_utf8_lossy(&line);
        parse(&text).ok_or_else(|| ServedError::Unexpected { line: excerpt(&text), when })
    }

    fn ended(&mut self, when: &'static str) -> ServedError {
        let status = match self.end() {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        ServedError::Ended { status, when }
    }

    /// Has the server end, and kills it if it does not. How it ended.
    fn end(&mut self) -> io::Result<ExitStatus> {
        self.to = None;
        self.lines = None;
        let until = Instant::now() + self.limits.end;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(TICK);
        }
        self.child.kill()?;
        self.child.wait()
    }
}

impl Measured for Served {
    fn measure(&mut self, request: &str) -> Result<Vec<Sample>, String> {
        if let Some(lost) = &self.lost {
            return Err(lost.clone());
        }
        if request.len() > MAX_REQUEST_BYTES || request.contains('\n') {
            let bytes = request.len();
            return Err(format!(
                "a request of {bytes} bytes cannot be sent: it is one line of {MAX_REQUEST_BYTES} at most"
            ));
        }
        self.ask(request).unwrap_or_else(|error| {
            // Whatever comes now may be about the measure before.
            let _ = self.child.kill();
            let lost = error.to_string();
            self.lost = Some(lost.clone());
            Err(lost)
        })
    }

    fn lost(&self) -> Option<String> {
        self.lost.clone()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if self.end().is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn unexpected(line: &Line, when: &'static str) -> ServedError {
    ServedError::Unexpected { line: excerpt(&format!("{line:?}")), when }
}

/// The beginning, for an error.
fn excerpt(text: &str) -> String {
    text.chars().take(120).collect()
}

/// Passes lines on, without their line feeds. One that is too long is cut, which makes two lines that are none.
fn read_lines(output: ChildStdout, lines: &SyncSender<Vec<u8>>) {
    let mut output = BufReader::new(output);
    loop {
        let mut line = Vec::new();
        match (&mut output).take(MOST_BYTES as u64).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if lines.send(line).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
