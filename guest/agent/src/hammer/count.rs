//! Counts of calls, which one thread writes and others may read at any time, even when that thread never comes back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use plugstorm_wire::{ErrnoCount, ExitCount, Operation, OperationCount};

/// Linux' own errnos end at 133 (`EHWPOISON`). Those above, which user space should never see (512 and up), are counted
/// together under this one, as [`OVERFLOW_NAME`].
const ERRNO_LIMIT: usize = 160;

const OVERFLOW_NAME: &str = "OTHER";

/// No time-stamp counter gets there.
const NEVER: u64 = u64::MAX;

/// Ends of a program that are told apart: exit codes, and signals (real-time ones included) after them.
const EXIT_CODES: usize = 256;
const ENDS: usize = EXIT_CODES + 65;

/// How a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// With this errno.
    Errno(Errno),
    /// The program that it ran ended with this exit code.
    Exit(i32),
    /// The program that it ran was ended by this signal.
    Signal(Signal),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

/// The counts of one thread.
#[derive(Debug)]
pub(super) struct Counters {
    operations: Vec<(Operation, OperationCounter)>,
}

#[derive(Debug)]
struct OperationCounter {
    calls: AtomicU64,
    succeeded: AtomicU64,
    longest_ticks: AtomicU64,
    /// When the first call ended that found the device gone; [`NEVER`] before.
    gone_tsc: AtomicU64,
    /// By errno; the last one takes all that are greater.
    errors: Vec<AtomicU64>,
    /// By exit code, then by signal; empty for calls that run no program.
    ends: Vec<AtomicU64>,
}

impl Counters {
    /// Zeroes for each of the operations; one that is listed twice is counted once.
    pub(super) fn new(operations: &[Operation]) -> Self {
        let mut distinct = operations.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        Self {
            operations: distinct.into_iter().map(|operation| (operation, OperationCounter::new(operation))).collect(),
        }
    }

    /// Counts a call that begins.
    pub(super) fn begin(&self, operation: Operation) {
        if let Some(counter) = self.of(operation) {
            counter.calls.fetch_add(1, Relaxed);
        }
    }

    /// Counts how it ended, from and to these counts of the time-stamp counter.
    pub(super) fn end(&self, operation: Operation, (began_tsc, ended_tsc): (u64, u64), result: Result<(), Failure>) {
        let Some(counter) = self.of(operation) else { return };
        counter.longest_ticks.fetch_max(ended_tsc.saturating_sub(began_tsc), Relaxed);
        if result == Err(Failure::Errno(Errno::ENODEV)) {
            counter.gone_tsc.fetch_min(ended_tsc, Relaxed);
        }
        match result {
            Ok(()) => {
                counter.succeeded.fetch_add(1, Relaxed);
            }
            Err(Failure::Exit(code)) => counter.ended(usize::try_from(code & 0xff).unwrap_or(0)),
            Err(Failure::Signal(signal)) => counter.ended(EXIT_CODES + usize::try_from(signal as i32).unwrap_or(0)),
            Err(Failure::Errno(errno)) => {
                let index = usize::try_from(errno as i32).unwrap_or(ERRNO_LIMIT).min(ERRNO_LIMIT);
                if let Some(count) = counter.errors.get(index) {
                    count.fetch_add(1, Relaxed);
                }
            }
        }
    }

    fn of(&self, operation: Operation) -> Option<&OperationCounter> {
        // A handful: searching them costs less than a map would.
        self.operations.iter().find(|(listed, _)| *listed == operation).map(|(_, counter)| counter)
    }
}

impl OperationCounter {
    fn new(operation: Operation) -> Self {
        let ends = if operation == Operation::Run { ENDS } else { 0 };
        Self {
            calls: AtomicU64::new(0),
            succeeded: AtomicU64::new(0),
            longest_ticks: AtomicU64::new(0),
            gone_tsc: AtomicU64::new(NEVER),
            errors: (0..=ERRNO_LIMIT).map(|_| AtomicU64::new(0)).collect(),
            ends: (0..ends).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn ended(&self, index: usize) {
        if let Some(count) = self.ends.get(index) {
            count.fetch_add(1, Relaxed);
        }
    }
}

/// Adds up the counts of several threads. `to_ns` turns ticks into nanoseconds.
pub(super) fn sum<'a>(
    threads: impl IntoIterator<Item = &'a Counters>,
    to_ns: impl Fn(u64) -> u64,
) -> Vec<OperationCount> {
    #[derive(Default)]
    struct Sum {
        calls: u64,
        succeeded: u64,
        longest_ticks: u64,
        gone_tsc: Option<u64>,
        errors: BTreeMap<usize, u64>,
        ends: BTreeMap<usize, u64>,
    }
    let mut sums: BTreeMap<Operation, Sum> = BTreeMap::new();
    for (operation, counter) in threads.into_iter().flat_map(|counters| &counters.operations) {
        let sum = sums.entry(*operation).or_default();
        sum.calls = sum.calls.saturating_add(counter.calls.load(Relaxed));
        sum.succeeded = sum.succeeded.saturating_add(counter.succeeded.load(Relaxed));
        sum.longest_ticks = sum.longest_ticks.max(counter.longest_ticks.load(Relaxed));
        let gone_tsc = Some(counter.gone_tsc.load(Relaxed)).filter(|tsc| *tsc != NEVER);
        sum.gone_tsc = sum.gone_tsc.into_iter().chain(gone_tsc).min();
        add_up(&mut sum.errors, &counter.errors);
        add_up(&mut sum.ends, &counter.ends);
    }
    sums.into_iter()
        .map(|(operation, sum)| OperationCount {
            operation,
            calls: sum.calls,
            succeeded: sum.succeeded,
            errors: sum.errors.into_iter().map(|(errno, count)| errno_count(errno, count)).collect(),
            exits: sum.ends.into_iter().map(|(end, count)| ExitCount { status: end_name(end), count }).collect(),
            longest_ns: to_ns(sum.longest_ticks),
            gone_tsc: sum.gone_tsc,
        })
        .collect()
}

fn add_up(sums: &mut BTreeMap<usize, u64>, counts: &[AtomicU64]) {
    for (index, count) in counts.iter().enumerate() {
        let count = count.load(Relaxed);
        if count > 0 {
            let total = sums.entry(index).or_default();
            *total = total.saturating_add(count);
        }
    }
}

fn end_name(index: usize) -> String {
    let Some(number) = index.checked_sub(EXIT_CODES) else { return format!("exit {index}") };
    let signal = i32::try_from(number).ok().and_then(|number| Signal::try_from(number).ok());
    signal.map_or_else(|| format!("signal {number}"), |signal| signal.as_str().to_owned())
}

fn errno_count(index: usize, count: u64) -> ErrnoCount {
    let errno = i32::try_from(index).unwrap_or(i32::MAX);
    let name = match Errno::from_raw(errno) {
        Errno::UnknownErrno if index == ERRNO_LIMIT => OVERFLOW_NAME.to_owned(),
        Errno::UnknownErrno => format!("E{errno}"),
        known => format!("{known:?}"),
    };
    ErrnoCount { errno, name, count }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_added_up() {
        let operations = [Operation::Read, Operation::IoctlTouch, Operation::Read];
        let threads = [Counters::new(&operations), Counters::new(&operations)];
        for (index, thread) in threads.iter().enumerate() {
            for _ in 0..=index {
                thread.begin(Operation::Read);
                thread.end(Operation::Read, (5, 5 + 10 * (index as u64 + 1)), Ok(()));
            }
            thread.begin(Operation::IoctlTouch);
            thread.end(Operation::IoctlTouch, (1, 70 - index as u64), Err(Errno::ENODEV.into()));
        }
        threads[0].begin(Operation::IoctlTouch);
        threads[0].end(Operation::IoctlTouch, (1, 2), Err(Errno::EINTR.into()));
        threads[0].end(Operation::IoctlTouch, (1, 99), Err(Errno::ENODEV.into()));
        threads[1].begin(Operation::Read);
        let counts = sum(&threads, |ticks| ticks * 2);
        let of = |wanted| counts.iter().find(|count| count.operation == wanted).unwrap();
        assert_eq!(counts.len(), 2);
        let read = of(Operation::Read);
        assert_eq!((read.calls, read.succeeded, read.longest_ns, read.errors.len()), (4, 3, 40, 0));
        let touch = of(Operation::IoctlTouch);
        assert_eq!((touch.calls, touch.succeeded), (3, 0));
        assert_eq!((read.gone_tsc, touch.gone_tsc), (None, Some(69)));
        let named: Vec<(&str, i32, u64)> = touch.errors.iter().map(|e| (e.name.as_str(), e.errno, e.count)).collect();
        assert_eq!(named, [("EINTR", 4, 1), ("ENODEV", 19, 3)]);
    }

    #[test]
    fn ends_of_programs_are_counted_by_their_status() {
        let threads = [Counters::new(&[Operation::Run]), Counters::new(&[Operation::Run])];
        for thread in &threads {
            for result in
                [Ok(()), Err(Failure::Exit(1)), Err(Failure::Exit(255)), Err(Failure::Signal(Signal::SIGSEGV))]
            {
                thread.begin(Operation::Run);
                thread.end(Operation::Run, (0, 1), result);
            }
        }
        let counts = sum(&threads, |ticks| ticks);
        let [run] = &counts[..] else { panic!("{counts:?}") };
        assert_eq!((run.calls, run.succeeded, run.errors.len()), (8, 2, 0));
        let ends: Vec<_> = run.exits.iter().map(|end| (end.status.as_str(), end.count)).collect();
        assert_eq!(ends, [("exit 1", 2), ("exit 255", 2), ("SIGSEGV", 2)]);
        assert_eq!(end_name(EXIT_CODES + 64), "signal 64");
    }

    #[test]
    fn unknown_errnos_are_named_too() {
        assert_eq!(errno_count(150, 1).name, "E150");
        assert_eq!(errno_count(ERRNO_LIMIT, 1).name, "OTHER");
    }

    #[test]
    fn an_operation_never_announced_is_not_counted() {
        let counters = Counters::new(&[Operation::Read]);
        counters.begin(Operation::Write);
        counters.end(Operation::Write, (0, 1), Ok(()));
        assert_eq!(sum([&counters], |ticks| ticks)[0].calls, 0);
    }
}
