//! The process of a hammer. A process of its own, so that an oops, a thread that never comes back or a kill hits it and
//! not PID 1, whose end would be the guest's. It runs the hammer as often as it is told to, as long as all threads come back: to
//! start a process takes a debug kernel longer than to remove the device.

use std::convert::Infallible;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::prctl;
use plugstorm_wire::{HammerSpec, HangingThread, Line, LineReader, Sharing, encode};

use super::count;
use super::descriptors::{self, Descriptors, OpenError, Opened};
use super::interrupt;
use super::orders::{Answer, Order, ThreadStatus};
use super::thread::{ThreadState, Worker, ring};
use crate::clock::{Moment, tsc};

/// How long a device may take to appear. Only a bound: the host's own time-out for the start, which it scales by the
/// slowdown, comes before it.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3600);

/// Between two tries to open, if no uevent gives a reason to try before.
const OPEN_RETRY: Duration = Duration::from_millis(50);

/// While threads are awaited, they are interrupted this often: a signal that comes just before a call is lost.
const INTERRUPT_EVERY: Duration = Duration::from_millis(10);

/// While threads of which the kernel closes the descriptors are awaited, they are looked for this often.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Threads need little: a few calls and a read buffer.
const THREAD_STACK_BYTES: usize = 128 << 10;

/// More threads than any storm wants; against a scenario with a digit too many.
const MAX_THREADS: u32 = 1024;

/// Why the process ends early.
#[derive(Debug)]
enum Leave {
    /// The agent's end of the pipe is closed, or broken.
    AgentGone,
    /// To be told to the agent.
    Failed(String),
}

/// Runs the process: orders from standard input, answers to standard output.
pub(crate) fn run() {
    let mut orders = Orders { reader: LineReader::new(), pending: Vec::new() };
    match serve(&mut orders) {
        Err(Leave::AgentGone) => {}
        Err(Leave::Failed(error)) => {
            // If the agent is gone there is nobody left to tell.
            let _ = answer(&Answer::Failed { error });
        }
    }
}

fn serve(orders: &mut Orders) -> Result<Infallible, Leave> {
    interrupt::install().map_err(|errno| Leave::Failed(format!("cannot set up SIGUSR1: {errno}")))?;
    loop {
        run_once(orders)?;
    }
}

/// From one order to start until all threads have ended.
fn run_once(orders: &mut Orders) -> Result<(), Leave> {
    let (spec, seed) = orders.next_start()?;
    descriptors::check(&spec).map_err(Leave::Failed)?;
    if spec.threads > MAX_THREADS {
        return Err(Leave::Failed(format!("hammer {}: at most {MAX_THREADS} threads", spec.name)));
    }
    name_process(&spec.name);
    let opened = match open_when_there(&spec, orders)? {
        Opening::Opened(opened) => opened,
        Opening::Stopped => return answer(&report(true, 0, Vec::new(), Vec::new())),
    };
    Run::start(*spec, seed, opened)?.supervise(orders)
}

/// What `ps` and a list of hung tasks show; the kernel keeps 15 bytes.
fn name_process(hammer: &str) {
    let name: Vec<u8> = hammer.bytes().filter(|&byte| byte != 0).take(15).collect();
    if let Ok(name) = std::ffi::CString::new(name) {
        let _ = prctl::set_name(&name);
    }
}

#[derive(Debug)]
enum Opening {
    Opened(Opened),
    /// It was told to stop before the device had come.
    Stopped,
}

/// Opens as soon as the device is there. The agent gives a sign for each uevent that may be about it.
fn open_when_there(spec: &HammerSpec, orders: &mut Orders) -> Result<Opening, Leave> {
    let deadline = Instant::now() + OPEN_TIMEOUT;
    loop {
        let reason = match descriptors::open(spec) {
            Ok(opened) => return Ok(Opening::Opened(opened)),
            Err(OpenError::Never(reason)) => return Err(Leave::Failed(reason)),
            Err(OpenError::NotYet(reason)) => reason,
        };
        if Instant::now() >= deadline {
            let seconds = OPEN_TIMEOUT.as_secs();
            return Err(Leave::Failed(format!("hammer {}: {reason}, for {seconds} s now", spec.name)));
        }
        orders.wait(None, Some(OPEN_RETRY))?;
        while let Some(order) = orders.take() {
            match order {
                Order::Stop { .. } => return Ok(Opening::Stopped),
                Order::Status => answer(&Answer::Status { threads: Vec::new() })?,
                Order::Look | Order::Start { .. } => {}
            }
        }
    }
}

/// A hammer at work.
#[derive(Debug)]
struct Run {
    spec: Arc<HammerSpec>,
    node: String,
    descriptors: u32,
    threads: Vec<Arc<ThreadState>>,
    /// The process's own share of descriptors that threads have inherited in tables of their own: closed after theirs.
    parents: Option<Arc<Descriptors>>,
    stop: Arc<AtomicBool>,
    bell: Arc<EventFd>,
    began: Moment,
    /// Threads that were told of as killed.
    told_killed: Vec<u32>,
}

impl Run {
    fn start(spec: HammerSpec, seed: u64, opened: Opened) -> Result<Self, Leave> {
        let bell = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)
            .map_err(|errno| Leave::Failed(format!("cannot make an eventfd: {errno}")))?;
        let mut run = Self {
            spec: Arc::new(spec),
            node: opened.node.to_string_lossy().into_owned(),
            descriptors: opened.count,
            threads: Vec::new(),
            parents: None,
            stop: Arc::new(AtomicBool::new(false)),
            bell: Arc::new(bell),
            began: Moment::now(),
            told_killed: Vec::new(),
        };
        if run.spec.sharing == Sharing::Fork {
            run.parents = opened.per_thread.first().map(Arc::clone);
        }
        // Else the threads alone hold the descriptors: what the last of them drops is closed.
        for (index, descriptors) in (0_u32..).zip(opened.per_thread) {
            let state = Arc::new(ThreadState::new(&run.spec.operations));
            let worker = Worker {
                index,
                spec: Arc::clone(&run.spec),
                seed,
                state: Arc::clone(&state),
                descriptors,
                stop: Arc::clone(&run.stop),
                bell: Arc::clone(&run.bell),
            };
            let name: String = run.spec.name.chars().take(10).collect();
            std::thread::Builder::new()
                .name(format!("{name}/{index}").replace('\0', "?"))
                .stack_size(THREAD_STACK_BYTES)
                .spawn(move || worker.run())
                .map_err(|error| Leave::Failed(format!("cannot start thread {index}: {error}")))?;
            run.threads.push(state);
        }
        Ok(run)
    }

    /// Obeys orders until all threads have ended after a stop.
    fn supervise(mut self, orders: &mut Orders) -> Result<(), Leave> {
        let mut started = false;
        let mut deadline: Option<Instant> = None;
        loop {
            if !started && let Some(tsc) = self.last_begun_tsc() {
                started = true;
                let threads = u32::try_from(self.threads.len()).unwrap_or(u32::MAX);
                let (node, descriptors) = (self.node.clone(), self.descriptors);
                answer(&Answer::Started { tsc, node, descriptors, threads })?;
            }
            if self.stop.load(Relaxed) {
                if self.threads.iter().all(|thread| self.is_over(thread)) {
                    match self.parents.take() {
                        Some(parents) => self.close(parents)?,
                        None => return answer(&self.report(true)),
                    }
                }
                match deadline {
                    Some(moment) if Instant::now() >= moment || self.are_all_killed() => {
                        deadline = None;
                        self.tell_of_killed()?;
                        answer(&self.report(false))?;
                    }
                    Some(_) => self.interrupt(),
                    // Reported as hanging: another order to stop, or the end of the threads, is awaited.
                    None => {}
                }
            }
            // No bell tells that the kernel has closed a thread's table.
            let awaits_kernel = self.stop.load(Relaxed) && self.spec.sharing == Sharing::Fork;
            let look = awaits_kernel.then_some(LOOK_EVERY);
            orders.wait(Some(&self.bell), deadline.map(|_| INTERRUPT_EVERY).or(look))?;
            while let Some(order) = orders.take() {
                match order {
                    Order::Stop { grace_ms } => {
                        self.stop.store(true, Relaxed);
                        deadline = Instant::now().checked_add(Duration::from_millis(grace_ms));
                        // At once, so that even without any grace a call that can be interrupted is.
                        self.interrupt();
                    }
                    Order::Status => answer(&Answer::Status { threads: self.status() })?,
                    Order::Look | Order::Start { .. } => {}
                }
            }
        }
    }

    /// Whether a thread has ended with its descriptors closed. Those in a table of its own the kernel closes as the thread ends.
    fn is_over(&self, thread: &ThreadState) -> bool {
        let has_own_table = self.spec.sharing == Sharing::Fork;
        thread.is_finished() && (!has_own_table || thread.begun().is_none_or(|(tid, _)| is_gone(tid)))
    }

    /// Closes what the process itself holds, in a thread: it may be the last to do so, and hang there.
    fn close(&mut self, descriptors: Arc<Descriptors>) -> Result<(), Leave> {
        let state = Arc::new(ThreadState::new(&[]));
        self.threads.push(Arc::clone(&state));
        let bell = Arc::clone(&self.bell);
        let closing = move || {
            state.begin(tsc());
            drop(descriptors);
            state.finish();
            ring(&bell);
        };
        std::thread::Builder::new()
            .name("closing".into())
            .stack_size(THREAD_STACK_BYTES)
            .spawn(closing)
            .map(drop)
            .map_err(|error| Leave::Failed(format!("cannot start a thread to close descriptors: {error}")))
    }

    /// When the last thread had begun; nothing if one has not.
    fn last_begun_tsc(&self) -> Option<u64> {
        self.threads
            .iter()
            .map(|thread| thread.begun().map(|(_, tsc)| tsc))
            .try_fold(0, |last, tsc| Some(last.max(tsc?)))
    }

    /// Interrupts every thread that has not ended.
    fn interrupt(&self) {
        for thread in self.threads.iter().filter(|thread| !thread.is_finished()) {
            if let Some((tid, _)) = thread.begun() {
                interrupt::send(tid);
            }
        }
    }

    fn status(&self) -> Vec<ThreadStatus> {
        self.unfinished()
            .map(|(tid, thread)| ThreadStatus { tid, operation: thread.position(&self.spec.operations).0 })
            .collect()
    }

    fn unfinished(&self) -> impl Iterator<Item = (u32, &ThreadState)> {
        self.threads
            .iter()
            .filter(|thread| !self.is_over(thread))
            .filter_map(|thread| thread.begun().map(|(tid, _)| (tid, &**thread)))
    }

    /// Whether threads are awaited of which none will ever come.
    fn are_all_killed(&self) -> bool {
        // Threads finish while they are looked at: those that have are not killed, and none left means that all came.
        let mut killed = 0;
        for thread in self.threads.iter().filter(|thread| !thread.is_finished()) {
            let gone = thread.begun().is_some_and(|(tid, _)| is_gone(tid));
            match (gone, thread.is_finished()) {
                (_, true) => {}
                (true, false) => killed += 1,
                (false, false) => return false,
            }
        }
        killed > 0
    }

    /// Tells of threads that ended without coming back from their call.
    fn tell_of_killed(&mut self) -> Result<(), Leave> {
        let killed: Vec<u32> = self
            .unfinished()
            .filter(|(tid, thread)| !self.told_killed.contains(tid) && is_gone(*tid) && !thread.is_finished())
            .map(|(tid, _)| tid)
            .collect();
        for tid in killed {
            let name = &self.spec.name;
            answer(&Answer::Note {
                text: format!("thread {tid} of hammer {name} was killed in the kernel (an oops?)"),
            })?;
            self.told_killed.push(tid);
        }
        Ok(())
    }

    fn report(&self, ended: bool) -> Answer {
        let now = Moment::now();
        let to_ns = |ticks| self.began.ticks_to_ns(&now, ticks);
        let first_tsc = self.threads.iter().filter_map(|thread| thread.begun()).map(|(_, tsc)| tsc).min();
        let last_tsc = self.threads.iter().map(|thread| thread.last_end_tsc()).max();
        let active = last_tsc.unwrap_or(0).saturating_sub(first_tsc.unwrap_or_else(tsc));
        let operations = count::sum(self.threads.iter().map(|thread| &thread.counters), to_ns);
        let hanging = self
            .unfinished()
            .map(|(tid, thread)| {
                let (operation, since_tsc) = thread.position(&self.spec.operations);
                HangingThread { tid, operation, since_tsc }
            })
            .collect();
        report(ended, to_ns(active), operations, hanging)
    }
}

/// Whether a thread of this process is no more. If it has not finished, the kernel killed it, by an oops.
fn is_gone(tid: u32) -> bool {
    !Path::new(&format!("/proc/self/task/{tid}")).exists()
}

fn report(
    ended: bool,
    active_ns: u64,
    operations: Vec<plugstorm_wire::OperationCount>,
    hanging: Vec<HangingThread>,
) -> Answer {
    Answer::Report { ended, active_ns, operations, hanging }
}

fn answer(answer: &Answer) -> Result<(), Leave> {
    let bytes = encode(answer).map_err(|error| Leave::Failed(format!("an answer could not be encoded: {error}")))?;
    let mut output = std::io::stdout().lock();
    output.write_all(&bytes).and_then(|()| output.flush()).map_err(|_| Leave::AgentGone)
}

/// Orders, as they come in.
#[derive(Debug)]
struct Orders {
    reader: LineReader,
    /// In reverse: the next one is last.
    pending: Vec<Order>,
}

impl Orders {
    /// What the next order to start says; waits for it. Other orders are about a run that has ended while they were on their way.
    fn next_start(&mut self) -> Result<(Box<HammerSpec>, u64), Leave> {
        loop {
            match self.take() {
                Some(Order::Start { spec, seed }) => return Ok((spec, seed)),
                Some(Order::Look | Order::Status | Order::Stop { .. }) => {}
                None => self.wait(None, None)?,
            }
        }
    }

    /// The next order that is there.
    fn take(&mut self) -> Option<Order> {
        self.pending.pop()
    }

    /// Waits until there is an order, the bell has rung, or the time is over.
    fn wait(&mut self, bell: Option<&EventFd>, timeout: Option<Duration>) -> Result<(), Leave> {
        let input = std::io::stdin();
        let mut descriptors = vec![PollFd::new(input.as_fd(), PollFlags::POLLIN)];
        descriptors.extend(bell.map(|bell| PollFd::new(bell.as_fd(), PollFlags::POLLIN)));
        let timeout = timeout.map_or(PollTimeout::NONE, |t| PollTimeout::try_from(t).unwrap_or(PollTimeout::MAX));
        match poll(&mut descriptors, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Leave::Failed(format!("poll failed: {errno}"))),
        }
        let has_order = descriptors.first().and_then(PollFd::any).unwrap_or(false);
        if let Some(bell) = bell {
            // Nonblocking: it may not have rung.
            let _ = bell.read();
        }
        if has_order { self.read() } else { Ok(()) }
    }

    fn read(&mut self) -> Result<(), Leave> {
        let mut buffer = [0; 4096];
        // The standard library's own buffer would hide from poll() what it holds.
        let count = nix::unistd::read(std::io::stdin().as_fd(), &mut buffer).map_err(|_| Leave::AgentGone)?;
        if count == 0 {
            return Err(Leave::AgentGone);
        }
        let mut malformed = None;
        let mut orders = Vec::new();
        self.reader.push(buffer.get(..count).unwrap_or_default(), |line| match line {
            Line::Message(order) => orders.push(order),
            Line::Malformed { reason, .. } => malformed = Some(reason),
        });
        orders.reverse();
        orders.append(&mut self.pending);
        self.pending = orders;
        malformed.map_or(Ok(()), |reason| Err(Leave::Failed(reason)))
    }
}
