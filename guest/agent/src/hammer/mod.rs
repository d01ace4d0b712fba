//! Hammers, as the agent sees them: a process for each, and another one while threads of the first hang.

mod count;
mod descriptors;
mod find;
mod gpiochip;
mod interrupt;
mod node;
mod orders;
mod page;
mod pause;
mod plugstorm;
mod process;
mod program;
mod share;
mod thread;

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::wait::WaitStatus;
use plugstorm_wire::{FromGuest, HammerSpec, Line, LineReader, encode};

use crate::clock::tsc;
use crate::tasks::{HammerTasks, HammerThread};
use orders::{Answer, Order, ThreadStatus};

pub(crate) use process::run as run_process;

/// The first argument of a process that is to be a hammer.
pub(crate) const ARGUMENT: &str = "hammer";

/// All hammers of the scenario, and those that run.
#[derive(Debug, Default)]
pub(crate) struct Hammers {
    specs: HashMap<String, HammerSpec>,
    running: Vec<Running>,
    next_token: u64,
}

/// A request of the host that has not been answered.
#[derive(Debug, Clone, Copy)]
struct Pending {
    id: u64,
    began_tsc: u64,
}

/// What a hammer's process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It opens, or its threads work, or they are awaited.
    Works,
    /// It reported that threads hang.
    Hangs,
    /// It reported that all threads have ended, and awaits the next start.
    Rests,
    /// It failed, and is about to end.
    Leaves,
}

/// A hammer's process.
#[derive(Debug)]
struct Running {
    token: u64,
    name: String,
    pid: u32,
    orders: ChildStdin,
    answers: ChildStdout,
    reader: LineReader,
    /// The start, until it has been answered.
    starting: Option<Pending>,
    /// The last stop, until it has been answered.
    stopping: Option<Pending>,
    phase: Phase,
    /// Where its threads are; nothing while it is being asked.
    status: Option<Vec<ThreadStatus>>,
}

impl Hammers {
    /// Takes over the hammers of a scenario.
    pub(crate) fn configure(&mut self, specs: Vec<HammerSpec>) {
        self.specs = specs.into_iter().map(|spec| (spec.name.clone(), spec)).collect();
    }

    /// Starts the hammer. If that takes a process that was not there before, gives its token, for [`Self::descriptor`] and
    /// [`Self::receive`].
    ///
    /// # Errors
    /// One sentence, to be the answer to the host.
    pub(crate) fn start(&mut self, id: u64, name: &str, seed: u64) -> Result<Option<u64>, String> {
        let spec =
            self.specs.get(name).ok_or_else(|| format!("there is no hammer {name} in the configuration"))?.clone();
        if self.running.iter().any(|running| running.name == name && running.phase == Phase::Works) {
            return Err(format!("hammer {name} is running already"));
        }
        let order = Order::Start { spec: Box::new(spec), seed };
        if self.start_again(id, name, &order) {
            return Ok(None);
        }
        let mut running = Running::spawn(name, self.next_token)?;
        running.begin(id, &order)?;
        self.next_token = self.next_token.wrapping_add(1);
        let token = running.token;
        self.running.push(running);
        Ok(Some(token))
    }

    /// Has a process that rests run the hammer. False if there is none: it may be gone, and not be reaped yet.
    fn start_again(&mut self, id: u64, name: &str, order: &Order) -> bool {
        self.running
            .iter_mut()
            .filter(|running| running.name == name && running.phase == Phase::Rests)
            .any(|running| running.begin(id, order).is_ok())
    }

    /// Tells the latest run of a hammer to stop.
    ///
    /// # Errors
    /// One sentence, to be the answer to the host.
    pub(crate) fn stop(&mut self, id: u64, name: &str, grace_ms: u64) -> Result<(), String> {
        let latest = |phase| self.running.iter().rposition(|running| running.name == name && running.phase == phase);
        let running = latest(Phase::Works)
            .or_else(|| latest(Phase::Hangs))
            .and_then(|position| self.running.get_mut(position))
            .ok_or_else(|| format!("hammer {name} is not running"))?;
        running.order(&Order::Stop { grace_ms })?;
        running.stopping = Some(Pending { id, began_tsc: tsc() });
        Ok(())
    }

    /// Tells hammers that wait for their device to look for it.
    pub(crate) fn look(&mut self) {
        for running in self.running.iter_mut().filter(|running| running.starting.is_some()) {
            // If the pipe is full, it has reason enough to look.
            let _ = running.order(&Order::Look);
        }
    }

    /// Where the answers of a process come from.
    pub(crate) fn descriptor(&self, token: u64) -> Option<BorrowedFd<'_>> {
        self.running.iter().find(|running| running.token == token).map(|running| running.answers.as_fd())
    }

    /// Reads the answers that are there. False if there will be no more.
    pub(crate) fn receive(&mut self, token: u64, to_host: &mut Vec<FromGuest>) -> bool {
        self.running.iter_mut().find(|running| running.token == token).is_some_and(|running| running.receive(to_host))
    }

    /// Takes note that a process has ended.
    pub(crate) fn reaped(&mut self, status: WaitStatus, to_host: &mut Vec<FromGuest>) {
        let Some(pid) = status.pid().and_then(|pid| u32::try_from(pid.as_raw()).ok()) else { return };
        let Some(position) = self.running.iter().position(|running| running.pid == pid) else { return };
        let mut running = self.running.remove(position);
        // Its last answers may still be in the pipe.
        running.receive(to_host);
        let how = match status {
            WaitStatus::Exited(_, code) => format!("ended with status {code}"),
            WaitStatus::Signaled(_, signal, _) => format!("was killed by {signal}"),
            other => format!("changed to {other:?}"),
        };
        let error = format!("the process of hammer {} {how} before it answered", running.name);
        let mut told = false;
        for pending in [running.starting, running.stopping].into_iter().flatten() {
            to_host.push(pending.failed(error.clone()));
            told = true;
        }
        let text = match running.phase {
            _ if told => return,
            Phase::Works => error,
            Phase::Rests => format!("the process of hammer {} {how} between two runs", running.name),
            Phase::Hangs | Phase::Leaves => return,
        };
        to_host.push(FromGuest::Note { tsc: tsc(), text });
    }

    /// Asks all hammers where their threads are.
    pub(crate) fn ask_for_status(&mut self) {
        for running in self.running.iter_mut().filter(|running| running.has_threads()) {
            running.status = None;
            let _ = running.order(&Order::Status);
        }
    }

    /// Whether all have answered.
    pub(crate) fn has_status(&self) -> bool {
        self.running.iter().all(|running| !running.has_threads() || running.status.is_some())
    }

    /// What is known of their processes and threads; those that rest take no part in anything.
    pub(crate) fn tasks(&self) -> HammerTasks {
        let mut tasks = HammerTasks::default();
        for running in self.running.iter().filter(|running| running.phase != Phase::Rests) {
            tasks.processes.insert(running.pid, running.name.clone());
            for thread in running.status.iter().flatten() {
                let known = HammerThread { hammer: running.name.clone(), operation: thread.operation };
                tasks.threads.insert(thread.tid, known);
            }
        }
        tasks
    }
}

impl Pending {
    fn failed(self, error: String) -> FromGuest {
        FromGuest::Done { id: self.id, began_tsc: self.began_tsc, ended_tsc: tsc(), error: Some(error) }
    }
}

impl Running {
    /// A new process, which awaits its first order.
    fn spawn(name: &str, token: u64) -> Result<Self, String> {
        let mut child = Command::new("/proc/self/exe")
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start a process for hammer {name}: {error}"))?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(format!("the process of hammer {name} has no pipes"));
        };
        // A process that is stuck must not hold up PID 1.
        for descriptor in [orders.as_fd(), answers.as_fd()] {
            fcntl(descriptor, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
                .map_err(|errno| format!("cannot make the pipes of hammer {name} nonblocking: {errno}"))?;
        }
        // `child` is not waited for here: PID 1 reaps all processes in one place.
        Ok(Self {
            token,
            name: name.to_owned(),
            pid: child.id(),
            orders,
            answers,
            reader: LineReader::new(),
            starting: None,
            stopping: None,
            phase: Phase::Rests,
            status: None,
        })
    }

    /// Begins a run, by an order to start.
    fn begin(&mut self, id: u64, start: &Order) -> Result<(), String> {
        let began_tsc = tsc();
        if let Err(error) = self.order(start) {
            self.phase = Phase::Leaves;
            return Err(error);
        }
        self.phase = Phase::Works;
        self.starting = Some(Pending { id, began_tsc });
        Ok(())
    }

    /// Whether it may have threads at work, or that hang.
    fn has_threads(&self) -> bool {
        matches!(self.phase, Phase::Works | Phase::Hangs)
    }

    /// Gives the process an order.
    fn order(&mut self, order: &Order) -> Result<(), String> {
        let bytes = encode(order).map_err(|error| format!("an order could not be encoded: {error}"))?;
        // A pipe takes up to 4096 bytes whole or not at all (pipe(7)); an order that is longer is the first one in an
        // empty pipe.
        self.orders
            .write_all(&bytes)
            .map_err(|error| format!("the process of hammer {} takes no orders: {error}", self.name))
    }

    /// Reads the answers that are there. False if there will be no more.
    fn receive(&mut self, to_host: &mut Vec<FromGuest>) -> bool {
        let mut buffer = [0; 16 << 10];
        loop {
            match self.answers.read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => {
                    let mut lines = Vec::new();
                    self.reader.push(buffer.get(..count).unwrap_or_default(), |line| lines.push(line));
                    for line in lines {
                        match line {
                            Line::Message(answer) => to_host.extend(self.take(answer)),
                            Line::Malformed { reason, .. } => to_host.push(FromGuest::Note {
                                tsc: tsc(),
                                text: format!("hammer {} wrote what is no answer: {reason}", self.name),
                            }),
                        }
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
    }

    /// Turns an answer into what the host is to know.
    fn take(&mut self, answer: Answer) -> Option<FromGuest> {
        match answer {
            Answer::Started { tsc, node, descriptors, threads } => {
                let Pending { id, .. } = self.starting.take()?;
                Some(FromGuest::HammerStarted { id, tsc, hammer: self.name.clone(), node, descriptors, threads })
            }
            Answer::Failed { error } => {
                self.phase = Phase::Leaves;
                match self.starting.take().or(self.stopping.take()) {
                    Some(pending) => Some(pending.failed(error)),
                    None => Some(FromGuest::Note { tsc: tsc(), text: error }),
                }
            }
            Answer::Status { threads } => {
                self.status = Some(threads);
                None
            }
            Answer::Report { ended, active_ns, operations, hanging } => {
                self.phase = if ended { Phase::Rests } else { Phase::Hangs };
                if ended {
                    self.status = None;
                }
                // A start that was never answered, since the stop came first, is answered by the report.
                self.starting = None;
                // Without a stop that waits: threads that hung have come back after all.
                let Some(Pending { id, .. }) = self.stopping.take() else {
                    let text = format!("all threads of hammer {} have come back after all", self.name);
                    return Some(FromGuest::Note { tsc: tsc(), text });
                };
                let hammer = self.name.clone();
                Some(FromGuest::HammerReport { id, tsc: tsc(), hammer, ended, active_ns, operations, hanging })
            }
            Answer::Note { text } => Some(FromGuest::Note { tsc: tsc(), text }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugstorm_wire::HammerTarget;

    /// A hammer whose process does nothing but to be there.
    fn running() -> (Running, std::process::Child) {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let running = Running {
            token: 7,
            name: "r".into(),
            pid: child.id(),
            orders: child.stdin.take().unwrap(),
            answers: child.stdout.take().unwrap(),
            reader: LineReader::new(),
            starting: Some(Pending { id: 1, began_tsc: 5 }),
            stopping: None,
            phase: Phase::Works,
            status: None,
        };
        (running, child)
    }

    fn report(ended: bool) -> Answer {
        Answer::Report { ended, active_ns: 9, operations: Vec::new(), hanging: Vec::new() }
    }

    #[test]
    fn answers_carry_the_id_of_what_they_answer() {
        let (mut running, mut child) = running();
        let started = Answer::Started { tsc: 3, node: "/dev/x".into(), descriptors: 1, threads: 2 };
        assert!(matches!(running.take(started), Some(FromGuest::HammerStarted { id: 1, tsc: 3, threads: 2, .. })));
        running.stopping = Some(Pending { id: 2, began_tsc: 6 });
        assert!(matches!(running.take(report(false)), Some(FromGuest::HammerReport { id: 2, ended: false, .. })));
        assert_eq!(running.phase, Phase::Hangs);
        // Nobody asked any more.
        assert!(matches!(running.take(report(true)), Some(FromGuest::Note { .. })));
        assert_eq!(running.phase, Phase::Rests);
        drop(running);
        child.wait().unwrap();
    }

    #[test]
    fn a_process_that_ends_answers_what_was_asked() {
        let (running, mut child) = running();
        let mut hammers = Hammers { running: vec![running], ..Hammers::default() };
        child.kill().unwrap();
        child.wait().unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        let mut to_host = Vec::new();
        hammers.reaped(WaitStatus::Signaled(pid, nix::sys::signal::Signal::SIGKILL, false), &mut to_host);
        assert!(
            matches!(&to_host[..], [FromGuest::Done { id: 1, error: Some(error), .. }] if error.contains("SIGKILL")),
            "{to_host:?}"
        );
        assert!(hammers.running.is_empty() && hammers.has_status());
    }

    #[test]
    fn a_process_that_rests_runs_the_hammer_again() {
        let (mut running, mut child) = running();
        running.phase = Phase::Rests;
        running.starting = None;
        let mut hammers = Hammers { running: vec![running], ..Hammers::default() };
        let mut spec = descriptors::spec(HammerTarget::Plugstorm, &[]);
        spec.name = "r".into();
        hammers.configure(vec![spec]);
        assert!(hammers.stop(2, "r", 0).unwrap_err().contains("not running"), "it rests");
        assert!(hammers.has_status() && hammers.tasks().processes.is_empty());
        assert_eq!(hammers.start(3, "r", 0), Ok(None), "no other process is needed");
        let [running] = &mut hammers.running[..] else { panic!("one process, no more") };
        assert_eq!(running.phase, Phase::Works);
        let started = Answer::Started { tsc: 3, node: "/dev/x".into(), descriptors: 1, threads: 2 };
        assert!(matches!(running.take(started), Some(FromGuest::HammerStarted { id: 3, .. })));
        assert!(hammers.start(4, "r", 0).unwrap_err().contains("already"));
        hammers.stop(5, "r", 0).unwrap();
        drop(hammers);
        child.wait().unwrap();
    }

    #[test]
    fn a_process_that_is_gone_runs_no_hammer() {
        let (mut running, mut child) = running();
        running.phase = Phase::Rests;
        running.starting = None;
        child.kill().unwrap();
        child.wait().unwrap();
        let mut hammers = Hammers { running: vec![running], ..Hammers::default() };
        let spec = Box::new(descriptors::spec(HammerTarget::Plugstorm, &[]));
        assert!(!hammers.start_again(1, "r", &Order::Start { spec, seed: 0 }));
        let [running] = &hammers.running[..] else { panic!("it is not reaped yet") };
        assert_eq!((running.phase, running.starting.is_none()), (Phase::Leaves, true));
    }

    /// Threads that hung come back, and their process may be told to run while the one that took its place hangs: the order to
    /// stop is for the one that works.
    #[test]
    fn the_run_that_is_at_work_is_stopped() {
        let ((first, mut one), (mut second, mut other)) = (running(), running());
        second.phase = Phase::Hangs;
        let mut hammers = Hammers { running: vec![first, second], ..Hammers::default() };
        hammers.stop(2, "r", 0).unwrap();
        let [first, second] = &hammers.running[..] else { panic!("two processes") };
        assert!(first.stopping.is_some() && second.stopping.is_none());
        drop(hammers);
        for child in [&mut one, &mut other] {
            child.wait().unwrap();
        }
    }

    #[test]
    fn a_hammer_runs_once_at_a_time() {
        let (running, mut child) = running();
        let mut hammers = Hammers { running: vec![running], ..Hammers::default() };
        let mut spec = descriptors::spec(HammerTarget::Plugstorm, &[]);
        spec.name = "r".into();
        hammers.configure(vec![spec]);
        assert!(hammers.start(2, "r", 0).unwrap_err().contains("already"));
        assert!(hammers.start(2, "s", 0).unwrap_err().contains("no hammer s"));
        assert!(hammers.stop(2, "s", 0).unwrap_err().contains("not running"));
        drop(hammers);
        child.wait().unwrap();
    }
}
