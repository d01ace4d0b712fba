//! PID 1: starts up, then serves the host's commands and passes on what the kernel says.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use plugstorm_wire::{
    FromGuest, HammerSpec, Line, ModuleOutcome, PointSpec, ProbeFailure, ProbeSpec, ToGuest, VERSION, Watchdogs,
};
use rustix::process::{WaitOptions, wait};

use crate::clock::{calibrate_briefly_ns, calibrate_ns, set_realtime, since_boot_ns, tick_ns, tsc};
use crate::cmdline::{Misbehaviour, Plan, When, misbehaviour};
use crate::hammer::Hammers;
use crate::hotplug::{self, Action};
use crate::port::{Flush, Port};
use crate::programs::Programs;
use crate::trace::Trace;
use crate::uevent::{Received, UeventSocket};
use crate::{
    console, entropy, leaks, locks, measure, misbehave, modules, mounts, points, priority, spawn, sysfs, tasks,
    watchdogs,
};

// Whose event it is, in the data of epoll.
const PORT: u64 = 0;
const UEVENTS: u64 = 1;
const TRACE: u64 = 2;
const CHILDREN: u64 = 3;
const WORKERS: u64 = 4;
/// Hammers come after: this and the hammer's token.
const FIRST_HAMMER: u64 = 16;
/// Programs come after any number of hammers: this and the program's token.
const FIRST_PROGRAM: u64 = 1 << 48;

/// After the trace has been read, it is left alone for this long: so that a reader that wakes at every event does not
/// become the load that it measures.
const TRACE_REST: Duration = Duration::from_millis(20);

/// Reads of the trace in one go, of at most 16 KiB each, before others have their turn.
const TRACE_READS: usize = 64;

/// Reads of the trace for one [`ToGuest::FlushTrace`]: more than the buffers hold, in case events come faster than they
/// are read.
const FLUSH_READS: usize = 8192;

/// Uevents in one go.
const UEVENTS_AT_ONCE: usize = 256;

/// How long hammers may take to say where their threads are before tasks are listed without.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);

/// After the port refused bytes for another reason than that it is full.
const PORT_RETRY: Duration = Duration::from_millis(100);

/// Why the agent cannot serve at all.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}: {errno}")]
struct StartError {
    what: &'static str,
    errno: Errno,
}

impl StartError {
    fn of(what: &'static str) -> impl FnOnce(Errno) -> Self {
        move |errno| Self { what, errno }
    }
}

/// Runs PID 1. Never returns: the end of PID 1 is a kernel panic.
pub(crate) fn run() -> ! {
    console::say("started");
    for error in mounts::mount_all() {
        console::say(&error);
    }
    if let Err(error) = priority::of_the_agent() {
        console::say(&error);
    }
    // Everything the kernel says is evidence, whatever `quiet` kept off the console while it started.
    if let Err(error) = sysfs::write("/proc/sys/kernel/printk", "8") {
        console::say(&error.to_string());
    }
    let plan = misbehaviour(&sysfs::read("/proc/cmdline").unwrap_or_default()).unwrap_or_else(|error| {
        console::say(&error);
        None
    });
    if matches!(plan, Some(Plan { what: Misbehaviour::Silent, when: When::AtOnce })) {
        console::say("misbehaving as told: Silent");
        misbehave::silence();
    }
    match Agent::start(plan) {
        Ok(mut agent) => {
            let what = agent.serve();
            misbehave::act(what, agent.port)
        }
        Err(error) => {
            console::say(&format!("{error}; nothing can be done"));
            misbehave::silence()
        }
    }
}

#[derive(Debug)]
struct Agent {
    epoll: Epoll,
    port: Port,
    uevents: UeventSocket,
    children: SignalFd,
    trace: Option<Trace>,
    /// When to listen for the trace again.
    trace_rests_until: Option<Instant>,
    hammers: Hammers,
    programs: Programs,
    /// The points that were armed.
    armed: Vec<String>,
    /// What threads that do one command have to say.
    workers: (Sender<FromGuest>, Receiver<FromGuest>),
    workers_bell: Arc<EventFd>,
    /// Lists of tasks that wait for hammers to say where they are, and for how long they may.
    dumps: Vec<(u64, Instant)>,
    /// The port refused bytes for an unknown reason: when to try again.
    port_retry: Option<Instant>,
    plan: Option<Plan>,
    /// To be done after this round.
    misbehave_now: Option<Misbehaviour>,
}

impl Agent {
    fn start(plan: Option<Plan>) -> Result<Self, StartError> {
        // Before there are any threads, so that all of them leave the signal to the descriptor.
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        mask.thread_block().map_err(StartError::of("block SIGCHLD"))?;
        let children = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .map_err(StartError::of("make a signalfd"))?;
        // Before modules bring devices, so that none is missed.
        let uevents = UeventSocket::open().map_err(StartError::of("open the uevent socket"))?;
        let modules = modules::load_all();
        for error in modules.iter().filter_map(|module| module.error.as_deref()) {
            console::say(error);
        }
        // After the modules, so that nothing of theirs counts as lost later.
        let leaks = leaks::begin().unwrap_or_else(|error| {
            console::say(&error);
            false
        });
        let calibration_ns = calibrate_ns();
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(StartError::of("make an epoll"))?;
        let workers_bell = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)
            .map_err(StartError::of("make an eventfd"))?;
        let port = Port::wait_and_open(&uevents);
        let mut agent = Self {
            epoll,
            port,
            uevents,
            children,
            trace: None,
            trace_rests_until: None,
            hammers: Hammers::default(),
            programs: Programs::default(),
            armed: Vec::new(),
            workers: channel(),
            workers_bell: Arc::new(workers_bell),
            dumps: Vec::new(),
            port_retry: None,
            plan,
            misbehave_now: plan.filter(|plan| plan.when == When::AtOnce).map(|plan| plan.what),
        };
        // Edges only: a port whose host is not connected is "hung up" all the time, which would be a busy loop.
        let edges = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        agent.listen(agent.port.as_fd(), edges, PORT)?;
        agent.listen(agent.uevents.as_fd(), EpollFlags::EPOLLIN, UEVENTS)?;
        agent.listen(agent.children.as_fd(), EpollFlags::EPOLLIN, CHILDREN)?;
        agent.listen(agent.workers_bell.as_fd(), EpollFlags::EPOLLIN, WORKERS)?;
        if agent.misbehave_now.is_none() {
            agent.port.send(&hello(modules, leaks, calibration_ns));
        }
        Ok(agent)
    }

    fn listen(&self, descriptor: BorrowedFd<'_>, flags: EpollFlags, data: u64) -> Result<(), StartError> {
        self.epoll.add(descriptor, EpollEvent::new(flags, data)).map_err(StartError::of("listen to a descriptor"))
    }

    /// Serves for ever, or until it is time to misbehave.
    fn serve(&mut self) -> Misbehaviour {
        loop {
            if let Some(what) = self.misbehave_now {
                return what;
            }
            self.flush();
            let mut events = [EpollEvent::empty(); 16];
            let count = match self.epoll.wait(&mut events, self.timeout()) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(errno) => {
                    console::say(&format!("cannot wait for events: {errno}"));
                    std::thread::sleep(Duration::from_secs(1));
                    0
                }
            };
            for event in events.into_iter().take(count) {
                match event.data() {
                    PORT => self.on_port(),
                    UEVENTS => self.on_uevents(),
                    TRACE => self.on_trace(),
                    CHILDREN => self.on_children(),
                    WORKERS => self.on_workers(),
                    program if program >= FIRST_PROGRAM => self.on_program(program.wrapping_sub(FIRST_PROGRAM)),
                    hammer => self.on_hammer(hammer.wrapping_sub(FIRST_HAMMER)),
                }
            }
            self.on_time();
        }
    }

    fn flush(&mut self) {
        self.port_retry = match self.port.flush() {
            Flush::All | Flush::Full => None,
            Flush::Failed => Some(Instant::now() + PORT_RETRY),
        };
    }

    fn timeout(&self) -> EpollTimeout {
        let dumps = self.dumps.iter().map(|&(_, deadline)| deadline);
        let next = dumps.chain(self.trace_rests_until).chain(self.port_retry).min();
        match next {
            None => EpollTimeout::NONE,
            Some(moment) => {
                // Rounded up: a millisecond too early would mean to come back for nothing.
                let left = moment.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
                EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
            }
        }
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        if self.trace_rests_until.is_some_and(|until| now >= until) {
            self.trace_rests_until = None;
            self.listen_to_trace_again();
        }
        let has_status = self.hammers.has_status();
        let (due, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.dumps).into_iter().partition(|&(_, deadline)| has_status || now >= deadline);
        self.dumps = waiting;
        for (id, _) in due {
            let mut hammers = self.hammers.tasks();
            hammers.programs = self.programs.processes().collect();
            let armed = self.armed.clone();
            self.in_thread("dump-tasks", id, move || tasks::dump(id, &hammers, &armed));
        }
    }

    fn on_port(&mut self) {
        let mut lines = Vec::new();
        let read = self.port.read(|line| lines.push(line));
        if let Err(error) = read {
            // Without the port there is no host to serve: it took it away.
            console::say(&format!("cannot read the port: {error}"));
        }
        for line in lines {
            match line {
                Line::Message(command) => self.obey(command),
                Line::Malformed { reason, .. } => self.note(format!("a command could not be read: {reason}")),
            }
        }
    }

    fn obey(&mut self, command: ToGuest) {
        match command {
            ToGuest::Configure { probes } => {
                let probes_failed = self.set_up_probes(&probes);
                self.port.send(&FromGuest::Configured { probes_failed });
            }
            ToGuest::Begin { hammers, realtime_ns, entropy, watchdogs, points } => {
                let begun = self.begin(hammers, realtime_ns, &entropy, &watchdogs, &points);
                self.port.send(&begun);
            }
            ToGuest::StartHammer { id, hammer, seed } => self.start_hammer(id, &hammer, seed),
            ToGuest::StopHammer { id, hammer, grace_ms } => {
                if let Err(error) = self.hammers.stop(id, &hammer, grace_ms) {
                    self.done(id, Some(error));
                }
            }
            ToGuest::Unbind { id, port } => self.hot_plug(Action::Unbind, id, port),
            ToGuest::Bind { id, port } => self.hot_plug(Action::Bind, id, port),
            ToGuest::Remove { id, port } => self.hot_plug(Action::Remove, id, port),
            ToGuest::Rescan { id, port } => self.hot_plug(Action::Rescan, id, port),
            ToGuest::RunProgram { id, program } => self.run_program(id, &program),
            ToGuest::DumpTasks { id } => {
                self.hammers.ask_for_status();
                self.dumps.push((id, Instant::now() + STATUS_TIMEOUT));
            }
            ToGuest::FlushTrace { id } => {
                let began_tsc = tsc();
                self.read_trace(FLUSH_READS);
                self.port.settle_trace();
                self.port.send(&FromGuest::Done { id, began_tsc, ended_tsc: tsc(), error: None });
            }
            ToGuest::ReadPoints { id } => match points::hits(&self.armed) {
                Ok(points) => self.port.send(&FromGuest::Points { id, tsc: tsc(), points }),
                Err(error) => self.done(id, Some(error)),
            },
            ToGuest::ShowLocks { id } => self.in_thread("show-locks", id, move || locks::show(id)),
            ToGuest::FindLeaks { id } => self.in_thread("find-leaks", id, move || leaks::find(id)),
            ToGuest::Measure { id, request } => self.in_thread("measure", id, move || measure::measure(id, &request)),
            ToGuest::LoadModule { id, file, parameters } => {
                self.in_thread("load-module", id, move || modules::load_later(id, &file, &parameters));
            }
            ToGuest::UnloadModule { id, name } => {
                self.in_thread("unload-module", id, move || modules::unload(id, &name));
            }
            ToGuest::Ping { id } => self.done(id, None),
            ToGuest::PowerOff => self.power_off(),
            _ => self.note("a command of a later version was passed over".into()),
        }
    }

    /// Makes this guest one run's own, in the order that [`ToGuest::Begin`] promises.
    fn begin(
        &mut self,
        hammers: Vec<HammerSpec>,
        realtime_ns: u64,
        entropy: &str,
        watchdogs: &Watchdogs,
        points: &[PointSpec],
    ) -> FromGuest {
        let mut problems = Vec::new();
        problems.extend(entropy::add(entropy).err());
        problems.extend(set_realtime(realtime_ns).err());
        problems.extend(watchdogs::set(watchdogs));
        let points_error = points::arm(points).err();
        if points_error.is_none() {
            self.armed = points.iter().map(|point| point.name.clone()).collect();
        }
        self.hammers.configure(hammers);
        let calibration_ns = calibrate_briefly_ns();
        let random = entropy::number().unwrap_or_else(|problem| {
            problems.push(problem);
            0
        });
        FromGuest::Begun { tsc: tsc(), calibration_ns, random, problems, points_error }
    }

    fn start_hammer(&mut self, id: u64, name: &str, seed: u64) {
        self.misbehave_now = self.plan.filter(|plan| plan.when == When::Late).map(|plan| plan.what);
        let started = self.hammers.start(id, name, seed).and_then(|new_process| {
            let Some(token) = new_process else { return Ok(()) };
            let descriptor = self.hammers.descriptor(token).ok_or("a hammer's pipe is gone")?;
            let data = FIRST_HAMMER.wrapping_add(token);
            self.listen(descriptor, EpollFlags::EPOLLIN, data).map_err(|error| error.to_string())
        });
        if let Err(error) = started {
            self.done(id, Some(error));
        }
    }

    fn run_program(&mut self, id: u64, program: &[String]) {
        let token = match self.programs.start(id, program) {
            Ok(token) => token,
            Err(error) => return self.done(id, Some(error)),
        };
        let Some(descriptor) = self.programs.descriptor(token) else { return };
        if let Err(error) = self.listen(descriptor, EpollFlags::EPOLLIN, FIRST_PROGRAM.wrapping_add(token)) {
            // It would stop at a pipe that nobody reads, and its end would be a second answer.
            self.programs.give_up(token);
            let name = program.first().map_or("", String::as_str);
            self.done(
                id,
                Some(format!("{name} ran in the guest and was killed, as its output cannot be read: {error}")),
            );
        }
    }

    fn hot_plug(&mut self, action: Action, id: u64, port: plugstorm_wire::PciAddress) {
        self.in_thread(action.name(), id, move || hotplug::perform(action, id, &port));
    }

    /// Does something in a thread of its own: what hangs in the kernel must hang there alone.
    fn in_thread(&mut self, name: &str, id: u64, work: impl FnOnce() -> FromGuest + Send + 'static) {
        let answers = self.workers.0.clone();
        let bell = Arc::clone(&self.workers_bell);
        let spawned = std::thread::Builder::new().name(name.into()).spawn(move || {
            // Neither can fail: the loop that listens does not end.
            let _ = (answers.send(work()), bell.write(1));
        });
        if let Err(error) = spawned {
            self.done(id, Some(format!("cannot start a thread to {name}: {error}")));
        }
    }

    fn on_workers(&mut self) {
        // Only to quieten it; the channel holds what there is.
        let _ = self.workers_bell.read();
        while let Ok(message) = self.workers.1.try_recv() {
            self.port.send(&message);
        }
    }

    fn on_uevents(&mut self) {
        for _ in 0..UEVENTS_AT_ONCE {
            match self.uevents.next() {
                Received::Uevent(uevent) => {
                    // A node has come: whoever waits for one may be waiting for this.
                    if uevent.devname.is_some() && uevent.action == "add" {
                        self.hammers.look();
                    }
                    self.port.send(&FromGuest::Uevent {
                        tsc: tsc(),
                        action: uevent.action,
                        devpath: uevent.devpath,
                        subsystem: uevent.subsystem,
                        driver: uevent.driver,
                        devname: uevent.devname,
                    });
                }
                Received::Lost => self.note("uevents were lost: the kernel's buffer for them overflowed".into()),
                Received::Nothing => return,
                Received::Failed(errno) => {
                    self.note(format!("no more uevents: the socket failed: {errno}"));
                    let _ = self.epoll.delete(self.uevents.as_fd());
                    return;
                }
            }
        }
    }

    fn on_children(&mut self) {
        while let Ok(Some(_)) = self.children.read_signal() {}
        let mut to_host = Vec::new();
        // One signal may stand for many children.
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(None) | Err(rustix::io::Errno::CHILD) => break,
                Ok(Some((pid, status))) => {
                    if let Some(status) = spawn::ended(pid, status) {
                        self.hammers.reaped(status, &mut to_host);
                        self.programs.reaped(status, &mut to_host);
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => {
                    console::say(&format!("cannot reap children: {errno}"));
                    break;
                }
            }
        }
        self.send_all(&to_host);
    }

    fn on_hammer(&mut self, token: u64) {
        let mut to_host = Vec::new();
        if !self.hammers.receive(token, &mut to_host)
            && let Some(descriptor) = self.hammers.descriptor(token)
        {
            // At its end, a pipe would report itself for ever.
            let _ = self.epoll.delete(descriptor);
        }
        self.send_all(&to_host);
    }

    fn on_program(&mut self, token: u64) {
        if !self.programs.receive(token)
            && let Some(descriptor) = self.programs.descriptor(token)
        {
            // At its end, a pipe would report itself for ever.
            let _ = self.epoll.delete(descriptor);
        }
    }

    fn set_up_probes(&mut self, probes: &[ProbeSpec]) -> Vec<ProbeFailure> {
        if probes.is_empty() {
            return Vec::new();
        }
        if self.trace.is_none() {
            match Trace::open() {
                Ok(trace) => {
                    if let Err(error) =
                        self.listen(trace.as_fd(), EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT, TRACE)
                    {
                        self.note(format!("the trace is read at FlushTrace only: {error}"));
                    }
                    self.trace = Some(trace);
                }
                Err(error) => {
                    let failed = |probe: &ProbeSpec| ProbeFailure { name: probe.name.clone(), error: error.clone() };
                    return probes.iter().map(failed).collect();
                }
            }
        }
        self.trace.as_ref().map(|trace| trace.add_probes(probes)).unwrap_or_default()
    }

    fn on_trace(&mut self) {
        self.read_trace(TRACE_READS);
        self.trace_rests_until = Some(Instant::now() + TRACE_REST);
    }

    /// Reads the trace until it is empty, or so many times.
    fn read_trace(&mut self, reads: usize) {
        for _ in 0..reads {
            let Some(chunk) = self.trace.as_mut().map(Trace::read) else { return };
            if chunk.at_end {
                return;
            }
            self.port.send_trace(chunk.lines, chunk.lost);
            // Between two reads, so that a long trace does not have to wait in memory.
            self.flush();
        }
    }

    fn listen_to_trace_again(&mut self) {
        let Some(trace) = &self.trace else { return };
        let mut event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT, TRACE);
        if let Err(errno) = self.epoll.modify(trace.as_fd(), &mut event) {
            self.note(format!("the trace is read at FlushTrace only from here on: {errno}"));
        }
    }

    fn power_off(&mut self) {
        self.flush();
        // In a thread: it shuts drivers down, and hangs behind a removal that hangs.
        let spawned = std::thread::Builder::new().name("power-off".into()).spawn(|| {
            let Err(errno) = reboot(RebootMode::RB_POWER_OFF);
            console::say(&format!("cannot power off: {errno}"));
        });
        if let Err(error) = spawned {
            console::say(&format!("cannot start a thread to power off: {error}"));
        }
    }

    fn done(&mut self, id: u64, error: Option<String>) {
        let now_tsc = tsc();
        self.port.send(&FromGuest::Done { id, began_tsc: now_tsc, ended_tsc: now_tsc, error });
    }

    fn note(&mut self, text: String) {
        self.port.send(&FromGuest::Note { tsc: tsc(), text });
    }

    fn send_all(&mut self, messages: &[FromGuest]) {
        for message in messages {
            self.port.send(message);
        }
    }
}

/// The preemption model that can be changed while the kernel runs (kernel/sched/debug.c).
const PREEMPTION: &str = "/sys/kernel/debug/sched/preempt";

fn hello(modules: Vec<ModuleOutcome>, leaks: bool, calibration_ns: u64) -> FromGuest {
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX));
    FromGuest::Hello {
        version: VERSION,
        kernel_release: sysfs::read("/proc/sys/kernel/osrelease").unwrap_or_default(),
        cpus,
        tsc: tsc(),
        since_boot_ns: since_boot_ns(),
        calibration_ns,
        tick_ns: tick_ns(),
        preemption: sysfs::read(PREEMPTION).ok().as_deref().and_then(chosen).map(str::to_owned),
        modules,
        leaks,
    }
}

/// The word in brackets: `none (voluntary) full`.
fn chosen(words: &str) -> Option<&str> {
    words.split_once('(')?.1.split_once(')').map(|(word, _)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preemption_model_is_the_word_in_brackets() {
        assert_eq!(chosen("none (voluntary) full \n"), Some("voluntary"));
        assert_eq!(chosen("none voluntary (full) lazy"), Some("full"));
        assert_eq!(chosen("none voluntary full"), None);
    }
}
