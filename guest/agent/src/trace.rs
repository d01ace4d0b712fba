//! The kernel's trace: kprobe events in a tracefs instance of our own, and its pipe.
//!
//! Documentation/trace/kprobetrace.rst, Documentation/trace/ftrace.rst (instances, `trace_clock`, `buffer_percent`).

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;
use plugstorm_wire::{ProbeAt, ProbeFailure, ProbeSpec};

use crate::sysfs;

const TRACEFS: &str = "/sys/kernel/tracing";
const INSTANCE: &str = "/sys/kernel/tracing/instances/plugstorm";

/// The group of our events.
const GROUP: &str = "plugstorm";

/// For each CPU. A kprobe event takes some 50 bytes, so this holds about 20,000 of them between two reads.
const BUFFER_KIB_PER_CPU: &str = "1024";

/// How many calls of one function may be under way at once before returns are missed. The kernel's own choice
/// (`2 * num_possible_cpus()`) is too few for functions in which many tasks wait.
const RETURN_INSTANCES: u32 = 64;

/// The pipe of our instance, read without waiting.
#[derive(Debug)]
pub(crate) struct Trace {
    pipe: File,
    unfinished: Vec<u8>,
}

/// What one read of the pipe gave.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TraceChunk {
    /// Whole lines, without line feeds.
    pub(crate) lines: Vec<String>,
    /// Events that the kernel says it had to overwrite.
    pub(crate) lost: u64,
    /// Nothing was there to read.
    pub(crate) at_end: bool,
}

impl Trace {
    /// Makes the instance and opens its pipe.
    ///
    /// # Errors
    /// A sentence that names the file. Settings that only make the trace worse (buffer size) are passed over in
    /// silence; a clock that is not the time-stamp counter is an error, since all times would be wrong.
    pub(crate) fn open() -> Result<Self, String> {
        let instance = Path::new(INSTANCE);
        match fs::create_dir(instance) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(format!("cannot make {INSTANCE} (tracefs, CONFIG_KPROBE_EVENTS): {error}")),
        }
        sysfs::write(instance.join("trace_clock"), "x86-tsc").map_err(|error| error.to_string())?;
        let size = sysfs::write(instance.join("buffer_size_kb"), BUFFER_KIB_PER_CPU);
        // Wake a reader at the first event, not when the buffer is half full. Absent before 5.0, which always did so.
        let percent = sysfs::write(instance.join("buffer_percent"), "0");
        drop((size, percent));
        let path = instance.join("trace_pipe");
        let pipe = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(&path)
            .map_err(|error| format!("cannot open {}: {error}", path.display()))?;
        Ok(Self { pipe, unfinished: Vec::new() })
    }

    /// Sets up the probes and turns them on; gives those that failed with the kernel's reason.
    pub(crate) fn add_probes(&self, probes: &[ProbeSpec]) -> Vec<ProbeFailure> {
        probes
            .iter()
            .filter_map(|probe| add_probe(probe).err().map(|error| ProbeFailure { name: probe.name.clone(), error }))
            .collect()
    }

    /// Reads the pipe once.
    pub(crate) fn read(&mut self) -> TraceChunk {
        // More than the kernel formats at a time (TRACE_SEQ_BUFFER_SIZE, 8 KiB), so that it never has to cut.
        let mut buffer = [0; 16 << 10];
        loop {
            match self.pipe.read(&mut buffer) {
                Ok(0) => return TraceChunk { at_end: true, ..TraceChunk::default() },
                Ok(count) => return self.cut(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return TraceChunk { at_end: true, ..TraceChunk::default() },
            }
        }
    }

    fn cut(&mut self, bytes: &[u8]) -> TraceChunk {
        self.unfinished.extend_from_slice(bytes);
        let Some(last) = self.unfinished.iter().rposition(|&byte| byte == b'\n') else {
            return TraceChunk::default();
        };
        let rest = self.unfinished.split_off(last + 1);
        let whole = std::mem::replace(&mut self.unfinished, rest);
        let lines: Vec<String> = whole
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .collect();
        let lost = lines.iter().map(|line| lost_events(line)).fold(0, u64::saturating_add);
        TraceChunk { lines, lost, at_end: false }
    }
}

impl AsFd for Trace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// How many events a line such as `CPU:2 [LOST 123 EVENTS]` says were lost; 1 for `[LOST EVENTS]`, which has no number.
fn lost_events(line: &str) -> u64 {
    let Some((_, told)) = line.strip_prefix("CPU:").and_then(|rest| rest.split_once(" [LOST ")) else { return 0 };
    told.strip_suffix(" EVENTS]").and_then(|count| count.parse().ok()).unwrap_or(1)
}

fn add_probe(probe: &ProbeSpec) -> Result<(), String> {
    let events = Path::new(TRACEFS).join("kprobe_events");
    // The log is kept from probe to probe otherwise, and an old line would be taken for the reason.
    let _ = sysfs::write(Path::new(TRACEFS).join("error_log"), "\n");
    sysfs::append(&events, &definition(probe)).map_err(|error| match logged_reason() {
        Some(reason) => format!("{error}: {reason}"),
        None => error.to_string(),
    })?;
    let enable = Path::new(INSTANCE).join("events").join(GROUP).join(&probe.name).join("enable");
    sysfs::write(&enable, "1").map_err(|error| {
        let _ = sysfs::append(&events, &format!("-:{GROUP}/{}\n", probe.name));
        error.to_string()
    })
}

/// A probe as `kprobe_events` takes it.
fn definition(probe: &ProbeSpec) -> String {
    let kind = match probe.at {
        ProbeAt::Entry => "p".to_owned(),
        ProbeAt::Return => format!("r{RETURN_INSTANCES}"),
    };
    let mut text = format!("{kind}:{GROUP}/{} {}", probe.name, probe.symbol);
    for argument in &probe.arguments {
        text.push(' ');
        text.push_str(argument);
    }
    text.push('\n');
    text
}

fn logged_reason() -> Option<String> {
    error_of_log(&sysfs::read(Path::new(TRACEFS).join("error_log")).ok()?)
}

/// The last reason in tracefs' `error_log`: what follows `error: ` in `[  1.5] trace_kprobe: error: Failed to …`.
fn error_of_log(log: &str) -> Option<String> {
    let line = log.lines().rev().find_map(|line| line.split_once("error: "))?.1;
    Some(line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(at: ProbeAt, arguments: &[&str]) -> ProbeSpec {
        ProbeSpec {
            name: "srcu_enter".into(),
            symbol: "synchronize_srcu".into(),
            at,
            arguments: arguments.iter().map(|&argument| argument.into()).collect(),
        }
    }

    #[test]
    fn probes_are_written_as_the_kernel_reads_them() {
        assert_eq!(
            definition(&probe(ProbeAt::Entry, &["caller=$stack0:symbol"])),
            "p:plugstorm/srcu_enter synchronize_srcu caller=$stack0:symbol\n"
        );
        assert_eq!(definition(&probe(ProbeAt::Return, &[])), "r64:plugstorm/srcu_enter synchronize_srcu\n");
    }

    #[test]
    fn the_kernels_reason_is_found() {
        let log = "[    2.50] trace_kprobe: error: Failed to parse\n  Command: p:x\n   ^\n\
            [    3.11] trace_kprobe: error: Failed to register probe event\n  Command: p:plugstorm/x nosuch\n     ^\n";
        assert_eq!(error_of_log(log).as_deref(), Some("Failed to register probe event"));
        assert_eq!(error_of_log(""), None);
    }

    #[test]
    fn lines_are_put_together_and_losses_counted() {
        let mut trace = Trace { pipe: File::open("/dev/null").unwrap(), unfinished: Vec::new() };
        assert_eq!(trace.cut(b" agent-1 [000] "), TraceChunk::default());
        let chunk = trace.cut(b"77: x: ()\nCPU:1 [LOST 41 EVENTS]\nCPU:0 [LOST EVENTS]\n half");
        assert_eq!(chunk.lines, [" agent-1 [000] 77: x: ()", "CPU:1 [LOST 41 EVENTS]", "CPU:0 [LOST EVENTS]"]);
        assert_eq!((chunk.lost, chunk.at_end), (42, false));
        assert!(trace.read().at_end);
    }
}
