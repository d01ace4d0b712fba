//! Hammers, as the agent sees them: one process for each run of one.

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
    /// It reported that threads hang.
    hanging: bool,
    /// It reported that all threads have ended, or failed: its process is about to end.
    ended: bool,
    /// Where its threads are; nothing while it is being asked.
    status: Option<Vec<ThreadStatus>>,
}

impl Hammers {
    /// Takes over the hammers of a scenario.
    pub(crate) fn configure(&mut self, specs: Vec<HammerSpec>) {
        self.specs = specs.into_iter().map(|spec| (spec.name.clone(), spec)).collect();
    }

    /// Starts a process for the hammer; gives its token, for [`Self::descriptor`] and [`Self::receive`].
    ///
    /// # Errors
    /// One sentence, to be the answer to the host.
    pub(crate) fn start(&mut self, id: u64, name: &str, seed: u64) -> Result<u64, String> {
        let spec =
            self.specs.get(name).ok_or_else(|| format!("there is no hammer {name} in the configuration"))?.clone();
        if self.running.iter().any(|running| running.name == name && !running.ended && !running.hanging) {
            return Err(format!("hammer {name} is running already"));
        }
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
        let token = self.next_token;
        self.next_token = self.next_token.wrapping_add(1);
        let mut running = Running {
            token,
            name: name.to_owned(),
            pid: child.id(),
            orders,
            answers,
            reader: LineReader::new(),
            starting: Some(Pending { id, began_tsc: tsc() }),
            stopping: None,
            hanging: false,
            ended: false,
            status: None,
        };
        running.order(&Order::Start { spec: Box::new(spec), seed })?;
        self.running.push(running);
        // `child` is not waited for here: PID 1 reaps all processes in one place.
        Ok(token)
    }

    /// Tells the latest run of a hammer to stop.
    ///
    /// # Errors
    /// One sentence, to be the answer to the host.
    pub(crate) fn stop(&mut self, id: u64, name: &str, grace_ms: u64) -> Result<(), String> {
        let running = self
            .running
            .iter_mut()
            .rev()
            .find(|running| running.name == name && !running.ended)
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
        if !told && !running.ended && !running.hanging {
            to_host.push(FromGuest::Note { tsc: tsc(), text: error });
        }
    }

    /// Asks all hammers where their threads are.
    pub(crate) fn ask_for_status(&mut self) {
        for running in self.running.iter_mut().filter(|running| !running.ended) {
            running.status = None;
            let _ = running.order(&Order::Status);
        }
    }

    /// Whether all have answered.
    pub(crate) fn has_status(&self) -> bool {
        self.running.iter().all(|running| running.ended || running.status.is_some())
    }

    /// What is known of their processes and threads.
    pub(crate) fn tasks(&self) -> HammerTasks {
        let mut tasks = HammerTasks::default();
        for running in &self.running {
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
                self.ended = true;
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
                self.ended = ended;
                self.hanging = !ended;
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
            hanging: false,
            ended: false,
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
        assert!(running.hanging && !running.ended);
        // Nobody asked any more.
        assert!(matches!(running.take(report(true)), Some(FromGuest::Note { .. })));
        assert!(running.ended);
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
