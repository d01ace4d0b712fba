//! A trace as people read it, in the form of the kernel's own (`trace_print_context()` in kernel/trace/trace_output.c), so that
//! what reads those reads this: `TASK-PID [CPU] FLAGS TIMESTAMP: EVENT: …`.

use std::io::{self, Write};

use plugstorm_observe::trace::TraceEvent;
use serde_json::Value;

use super::journal::{Clock, Timed};
use super::words::{operation_words, shortened};
use crate::results::{EventKind, Source};

/// A value is cut here, in bytes.
const VALUE_BYTES: usize = 1024;
/// A task's name is cut here, in bytes: twice what a kernel's can have.
const TASK_BYTES: usize = 32;
/// The kernel shows five, and none of them is known here.
const FLAGS: &str = ".....";

/// Writes a trace.
#[derive(Debug)]
pub(super) struct Ftrace<W> {
    out: W,
    /// The CPU that stands for what happened on none of the guest's.
    no_cpu: u32,
    lines: u64,
}

impl<W: Write> Ftrace<W> {
    /// Begins a trace of a guest with so many vCPUs. `about`: lines of its head.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn new(mut out: W, cpus: u32, about: &[String]) -> io::Result<Self> {
        writeln!(out, "# tracer: nop\n#")?;
        for line in about {
            writeln!(out, "# {}", shortened(line, VALUE_BYTES))?;
        }
        writeln!(
            out,
            "# One clock: seconds since the run's start. What the guest timed itself is at its own time, what it did not at the\n\
             # time at which the host learnt of it (clock=heard). CPU {cpus} stands for none of the guest's: the storm and the slots\n\
             # (host), and what the guest's agent and console told.\n#\n\
             #           TASK-PID     CPU#  FLAGS        TIMESTAMP  EVENT\n\
             #              | |         |   |                |         |"
        )?;
        Ok(Self { out, no_cpu: cpus, lines: 0 })
    }

    /// Writes an event.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn event(&mut self, timed: &Timed) -> io::Result<()> {
        self.lines += 1;
        let Timed { at_ns, clock, event, .. } = timed;
        let (seconds, ns) = (at_ns / 1_000_000_000, at_ns % 1_000_000_000);
        if let EventKind::Trace { trace } = &event.kind {
            let (task, pid, cpu) = (shortened(&trace.task, TASK_BYTES), trace.pid, trace.cpu);
            write!(self.out, "{task:>16}-{pid:<7} [{cpu:03}] {FLAGS} {seconds:>5}.{ns:09}: ")?;
            return writeln!(self.out, "{}", traced(trace, *clock));
        }
        let who = match (event.source, &event.kind) {
            (Source::Host, EventKind::Slot { .. }) => "slot",
            (Source::Host, _) => "storm",
            (Source::Guest, EventKind::Splat { .. } | EventKind::Uevent { .. }) => "kernel",
            (Source::Guest, _) => "agent",
        };
        let cpu = self.no_cpu;
        write!(self.out, "{who:>16}-{:<7} [{cpu:03}] {FLAGS} {seconds:>5}.{ns:09}: ", 0)?;
        writeln!(self.out, "{}", told(&event.kind, *clock))
    }

    /// Ends the trace. Gives the output and how many events are in it.
    pub(super) fn finish(self) -> (W, u64) {
        (self.out, self.lines)
    }
}

/// As the kernel prints a probe's event.
fn traced(event: &TraceEvent, clock: Clock) -> String {
    let mut line = format!("{}:", shortened(&event.name, VALUE_BYTES));
    match (&event.returned_to, &event.function) {
        (Some(returned_to), Some(function)) => line.push_str(&format!(" ({returned_to} <- {function})")),
        (None, Some(function)) => line.push_str(&format!(" ({function})")),
        (_, None) => {}
    }
    for (key, value) in &event.fields {
        line.push_str(&format!(" {}={}", shortened(key, VALUE_BYTES), shortened(value, VALUE_BYTES)));
    }
    if clock == Clock::Heard {
        line.push_str(" clock=heard");
    }
    line
}

/// Any other event: its name, and what it says as the file has it.
fn told(kind: &EventKind, clock: Clock) -> String {
    let Ok(Value::Object(fields)) = serde_json::to_value(kind) else { return "event:".to_owned() };
    let name = fields.get("event").and_then(Value::as_str).unwrap_or("event");
    let mut line = format!("{name}:");
    for (key, value) in fields.iter().filter(|(key, _)| !["event", "operations"].contains(&key.as_str())) {
        let value = match value {
            Value::Null => continue,
            Value::String(words) if words.contains(char::is_whitespace) || words.is_empty() => {
                format!("\"{}\"", shortened(words, VALUE_BYTES))
            }
            Value::String(word) => shortened(word, VALUE_BYTES),
            other => shortened(&other.to_string(), VALUE_BYTES),
        };
        line.push_str(&format!(" {key}={value}"));
    }
    if let EventKind::HammerReported { operations, .. } = kind {
        let words: Vec<_> = operations.iter().map(operation_words).collect();
        line.push_str(&format!(" operations=\"{}\"", shortened(&words.join("; "), VALUE_BYTES)));
    }
    if clock == Clock::Heard {
        line.push_str(" clock=heard");
    }
    line
}
