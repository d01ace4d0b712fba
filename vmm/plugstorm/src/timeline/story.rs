//! Events as marks: what began and ended, on whose row, and what followed from what.

mod hotplug;
mod kernel;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use self::hotplug::HotPlug;
use self::kernel::{Tasks, Waits};
use super::journal::{Clock, Timed};
use super::track::{Arguments, Mark, Shape, Track, Value};
use super::words::{operation_words, shortened};
use crate::results::EventKind;

/// Slices open at a time on one row. The removal path nests eight deep.
const MOST_OPEN: usize = 32;
/// Rows with open slices at a time.
const MOST_ROWS: usize = 1024;
/// vCPUs that are told apart.
const MOST_CPUS: u32 = 256;
/// A name is cut here, in bytes.
const NAME_BYTES: usize = 256;
/// An argument is cut here, in bytes.
const TEXT_BYTES: usize = 1024;

/// Keys of slices: what is ended is named by it.
mod key {
    pub(super) const RUN: &str = "run";
    pub(super) const CYCLE: &str = "cycle";
    pub(super) const STEP: &str = "step";
    pub(super) const GUEST: &str = "guest";
    pub(super) const START: &str = "start";
    pub(super) const PRESENT: &str = "present";
    pub(super) const STUCK: &str = "stuck";
    pub(super) const AT_WORK: &str = "at work";
}

/// The event that is being told, and its time.
#[derive(Debug, Clone, Copy)]
struct Moment {
    at_ns: u64,
    clock: Clock,
    /// When the host learnt of it.
    heard_ns: u64,
}

/// Turns events, in the order of time, into marks.
#[derive(Debug)]
pub(super) struct Story {
    /// Names of the devices in slots 0 and up.
    devices: Vec<String>,
    /// vCPUs of a guest.
    cpus: u32,
    /// What the run is told by, beside its first event.
    run: Arguments,
    open: BTreeMap<Track, Vec<&'static str>>,
    hotplug: HotPlug,
    waits: Waits,
    tasks: Tasks,
    marks: Vec<Mark>,
    /// Slices that were not begun since too many were open.
    left_out: u64,
}

impl Story {
    /// A story that has not begun. `run`: what is to be said of the run as a whole.
    pub(super) fn new(devices: Vec<String>, cpus: u32, run: Arguments) -> Self {
        Self {
            devices,
            cpus,
            run,
            open: BTreeMap::new(),
            hotplug: HotPlug::default(),
            waits: Waits::default(),
            tasks: Tasks::default(),
            marks: Vec::new(),
            left_out: 0,
        }
    }

    /// Slices left out since too many were open.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Tells an event. Gives its marks.
    pub(super) fn tell(&mut self, timed: &Timed) -> std::vec::Drain<'_, Mark> {
        let moment = Moment { at_ns: timed.at_ns, clock: timed.clock, heard_ns: timed.event.t_ns };
        self.event(moment, &timed.event.kind);
        self.marks.drain(..)
    }

    /// Tells what has not ended. Slices that are open stay so: viewers show that.
    pub(super) fn finish(&mut self) -> std::vec::Drain<'_, Mark> {
        self.waits_that_never_ended(None);
        self.marks.drain(..)
    }

    fn event(&mut self, moment: Moment, kind: &EventKind) {
        match kind {
            EventKind::RunBegan { scenario, seed, cycles, kernel } => {
                let mut arguments: Arguments = vec![("seed", (*seed).into()), ("cycles", (*cycles).into())];
                arguments.push(("kernel", text(kernel)));
                arguments.extend(self.run.iter().cloned());
                self.begin(moment, Track::Run, key::RUN, name(scenario), arguments, None);
            }
            EventKind::RunEnded { verdict, reason } => {
                let verdict = serde_json::to_value(verdict).ok().and_then(|value| value.as_str().map(str::to_owned));
                let mut arguments: Arguments = vec![("verdict", verdict.unwrap_or_default().into())];
                arguments.extend(reason.as_ref().map(|reason| ("reason", text(reason))));
                self.guest_is_gone(moment.at_ns, "the run ended");
                self.end_all(moment.at_ns, &Track::Storm, "with the run");
                self.end(moment.at_ns, &Track::Run, key::RUN, arguments);
            }
            EventKind::CycleBegan { cycle } => {
                self.end(moment.at_ns, &Track::Storm, key::CYCLE, Vec::new());
                // Counted from 1, as everywhere for people.
                let cycle = cycle.saturating_add(1);
                self.begin(
                    moment,
                    Track::Storm,
                    key::CYCLE,
                    format!("cycle {cycle}"),
                    vec![("cycle", cycle.into())],
                    None,
                );
            }
            EventKind::CycleCompleted { .. } => {
                self.end(moment.at_ns, &Track::Storm, key::CYCLE, vec![("completed", "yes".into())]);
            }
            EventKind::Pause { ns, .. } => {
                self.step(moment, "pause".to_owned(), vec![("planned_ns", (*ns).into())]);
            }
            EventKind::ProgramAsked { program, .. } => {
                self.step(moment, name(&format!("run {program}")), Vec::new());
            }
            EventKind::ProgramEnded { end, output, output_bytes, .. } => {
                let arguments =
                    vec![("end", text(end)), ("output", text(output)), ("output_bytes", (*output_bytes).into())];
                self.end(moment.at_ns, &Track::Storm, key::STEP, arguments);
            }
            EventKind::HammerAsked { hammer, seed, .. } => {
                self.step(moment, name(&format!("start {hammer}")), vec![("seed", (*seed).into())]);
            }
            EventKind::HammerStarted { .. } | EventKind::HammerReported { .. } => self.hammer(moment, kind),
            EventKind::AddAsked { .. }
            | EventKind::AddFinished { .. }
            | EventKind::RemovalAsked { .. }
            | EventKind::RemovalSeen { .. }
            | EventKind::RemovalFinished { .. }
            | EventKind::RemovalStuck { .. }
            | EventKind::Slot { .. }
            | EventKind::Uevent { .. } => self.hot_plug(moment, kind),
            EventKind::Trace { trace } => self.traced(moment, trace),
            EventKind::Splat { title } => {
                self.instant(moment, Track::Findings, name(&format!("the kernel reports: {title}")), Vec::new());
            }
            EventKind::Found { cycle, kind, title } => {
                let arguments = vec![("cycle", cycle.saturating_add(1).into()), ("kind", kind.name().into())];
                self.instant(moment, Track::Findings, name(&format!("found: {title}")), arguments);
            }
            EventKind::BootBegan { .. }
            | EventKind::ForkBegan { .. }
            | EventKind::AgentHello { .. }
            | EventKind::Configured { .. }
            | EventKind::ModuleFailed { .. }
            | EventKind::Begun { .. }
            | EventKind::Migrated { .. }
            | EventKind::GuestEnded { .. } => self.guest(moment, kind),
            EventKind::NmiSent {} => {
                let what = "a non-maskable interrupt is sent, to show where it is".to_owned();
                self.instant(moment, Track::Guests, what, Vec::new());
            }
            EventKind::TraceLost { events } => {
                let what = "trace events were lost".to_owned();
                self.instant(moment, Track::Agent, what, vec![("events", (*events).into())]);
            }
            EventKind::TasksListed { tasks, left_out } => {
                let arguments = vec![("tasks", (*tasks as u64).into()), ("left_out", (*left_out).into())];
                self.instant(moment, Track::Agent, "the guest's tasks were listed".to_owned(), arguments);
            }
            EventKind::LocksListed { tasks, problem } => {
                let mut arguments = vec![("tasks", (*tasks as u64).into())];
                arguments.extend(problem.as_deref().map(|problem| ("problem", text(problem))));
                self.instant(moment, Track::Agent, "held locks were listed".to_owned(), arguments);
            }
            EventKind::PointsReached { hits } => {
                let reached: Vec<_> = hits.iter().map(|(point, hits)| format!("{point} {hits}")).collect();
                let arguments = vec![("hits", text(&reached.join(", ")))];
                self.instant(moment, Track::Agent, "points reached so far".to_owned(), arguments);
            }
            EventKind::Note { text: words } => {
                self.instant(moment, Track::Agent, name(words), vec![("text", text(words))]);
            }
            EventKind::ChannelFault { reason, excerpt } => {
                let arguments = vec![("reason", text(reason)), ("excerpt", text(excerpt))];
                self.instant(moment, Track::Agent, "what is no message".to_owned(), arguments);
            }
            other => self.other(moment, other),
        }
    }

    /// An event that has no row of its own.
    fn other(&mut self, moment: Moment, kind: &EventKind) {
        let Ok(serde_json::Value::Object(mut fields)) = serde_json::to_value(kind) else { return };
        let event = fields.remove("event").and_then(|event| event.as_str().map(str::to_owned)).unwrap_or_default();
        let arguments = vec![("fields", text(&serde_json::Value::Object(fields).to_string()))];
        self.instant(moment, Track::Agent, name(&event), arguments);
    }

    /// A guest's life.
    fn guest(&mut self, moment: Moment, kind: &EventKind) {
        let track = Track::Guests;
        match kind {
            EventKind::BootBegan { boot } => {
                self.guest_is_gone(moment.at_ns, "was stopped before the next one was started");
                self.begin(moment, track.clone(), key::GUEST, format!("boot {boot}"), Vec::new(), None);
                self.begin(moment, track, key::START, "until the agent speaks".to_owned(), Vec::new(), None);
            }
            EventKind::ForkBegan { fork, snapshot, ns } => {
                self.guest_is_gone(moment.at_ns, "was stopped before the next one was started");
                let arguments = vec![("snapshot", text(snapshot)), ("until_vcpus_run_ns", (*ns).into())];
                self.begin(moment, track.clone(), key::GUEST, format!("fork {fork}"), arguments, None);
                self.begin(moment, track, key::START, "until it is this run's own".to_owned(), Vec::new(), None);
            }
            EventKind::AgentHello { release, cpus, slowdown, .. } => {
                self.end(moment.at_ns, &track, key::START, Vec::new());
                self.cpus = self.cpus.max(*cpus).min(MOST_CPUS);
                let arguments = vec![
                    ("release", text(release)),
                    ("cpus", (*cpus).into()),
                    ("slowdown", format!("{slowdown:.1}").into()),
                ];
                self.instant(moment, track, "the agent speaks".to_owned(), arguments);
            }
            EventKind::Configured { probes_failed } => {
                let arguments = vec![("probes_failed", text(&probes_failed.join(", ")))];
                self.instant(moment, track, "the trace is set up".to_owned(), arguments);
            }
            EventKind::ModuleFailed { file, error } => {
                let arguments = vec![("file", text(file)), ("error", text(error))];
                self.instant(moment, track, "a module could not be loaded".to_owned(), arguments);
            }
            EventKind::Begun { slowdown, .. } => {
                self.end(moment.at_ns, &track, key::START, Vec::new());
                let arguments = vec![("slowdown", format!("{slowdown:.1}").into())];
                self.instant(moment, track, "it is this run's own".to_owned(), arguments);
            }
            EventKind::Migrated { ns, .. } => self.migrated(moment, *ns),
            EventKind::GuestEnded { cause } => self.guest_is_gone(moment.at_ns, cause),
            _ => {}
        }
    }

    /// The event comes at the end of a migration.
    fn migrated(&mut self, moment: Moment, ns: u64) {
        let began = Moment { at_ns: moment.at_ns.saturating_sub(ns), ..moment };
        self.step(began, "migrate".to_owned(), Vec::new());
        self.end(moment.at_ns, &Track::Storm, key::STEP, Vec::new());
        for cpu in 0..self.cpus.min(MOST_CPUS) {
            let stands_still = Shape::Begin("stands still: saved, and gone on with in another machine".to_owned());
            self.mark(began, Track::Cpu(cpu), stands_still, Vec::new(), None);
            self.mark(moment, Track::Cpu(cpu), Shape::End, Vec::new(), None);
        }
    }

    fn hammer(&mut self, moment: Moment, kind: &EventKind) {
        match kind {
            EventKind::HammerStarted { hammer, node, descriptors, threads, .. } => {
                self.end(moment.at_ns, &Track::Storm, key::STEP, Vec::new());
                let arguments =
                    vec![("node", text(node)), ("descriptors", (*descriptors).into()), ("threads", (*threads).into())];
                let title = format!("{threads} threads at work");
                self.begin(moment, Track::Hammer(name(hammer)), key::AT_WORK, title, arguments, None);
            }
            EventKind::HammerReported { hammer, ended, calls, hanging, operations, .. } => {
                let mut arguments: Arguments = vec![("calls", (*calls).into()), ("hanging", (*hanging as u64).into())];
                if !ended {
                    arguments.push(("ended", "no: threads did not come back".into()));
                }
                // Names of arguments are of the trace's own making; these are read as one list.
                let told: Vec<_> = operations.iter().map(operation_words).collect();
                if !told.is_empty() {
                    arguments.push(("operations", text(&told.join("; "))));
                }
                self.end(moment.at_ns, &Track::Hammer(name(hammer)), key::AT_WORK, arguments);
            }
            _ => {}
        }
    }

    /// What was under way in a guest ends with it.
    fn guest_is_gone(&mut self, at_ns: u64, cause: &str) {
        self.waits_that_never_ended(Some(at_ns));
        let rows: Vec<Track> = self
            .open
            .keys()
            .filter(|track| !matches!(track, Track::Run | Track::Storm | Track::Findings | Track::Guests))
            .cloned()
            .collect();
        for track in rows {
            self.end_all(at_ns, &track, "with its guest");
        }
        if self.open.contains_key(&Track::Guests) {
            self.end(at_ns, &Track::Guests, key::GUEST, vec![("cause", text(cause))]);
        }
    }

    /// The storm does one thing after the other.
    fn step(&mut self, moment: Moment, name: String, arguments: Arguments) {
        self.end(moment.at_ns, &Track::Storm, key::STEP, Vec::new());
        self.begin(moment, Track::Storm, key::STEP, name, arguments, None);
    }

    fn begin(
        &mut self,
        moment: Moment,
        track: Track,
        key: &'static str,
        name: String,
        arguments: Arguments,
        flow: Option<u64>,
    ) {
        if !self.open.contains_key(&track) && self.open.len() >= MOST_ROWS {
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        let open = self.open.entry(track.clone()).or_default();
        if open.len() >= MOST_OPEN {
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        open.push(key);
        self.mark(moment, track, Shape::Begin(name), arguments, flow);
    }

    /// Ends the innermost slice with this key, and what is open inside it. Whether there was one.
    fn end(&mut self, at_ns: u64, track: &Track, key: &str, arguments: Arguments) -> bool {
        let Some(open) = self.open.get_mut(track) else { return false };
        let Some(index) = open.iter().rposition(|other| *other == key) else { return false };
        let inside = open.len() - index - 1;
        open.truncate(index);
        if open.is_empty() {
            self.open.remove(track);
        }
        for _ in 0..inside {
            let arguments = vec![("ended", "not told: with what it is in".into())];
            self.marks.push(Mark { at_ns, track: track.clone(), shape: Shape::End, arguments, flow: None });
        }
        self.marks.push(Mark { at_ns, track: track.clone(), shape: Shape::End, arguments, flow: None });
        true
    }

    fn end_all(&mut self, at_ns: u64, track: &Track, how: &str) {
        for _ in self.open.remove(track).unwrap_or_default() {
            let arguments = vec![("ended", how.into())];
            self.marks.push(Mark { at_ns, track: track.clone(), shape: Shape::End, arguments, flow: None });
        }
    }

    fn instant(&mut self, moment: Moment, track: Track, name: String, arguments: Arguments) {
        self.mark(moment, track, Shape::Instant(name), arguments, None);
    }

    fn mark(&mut self, moment: Moment, track: Track, shape: Shape, mut arguments: Arguments, flow: Option<u64>) {
        if matches!(shape, Shape::Begin(_) | Shape::Instant(_)) {
            arguments.push(("clock", moment.clock.name().into()));
            if moment.clock == Clock::Guest {
                arguments.push(("heard_ns", moment.heard_ns.into()));
            }
        }
        self.marks.push(Mark { at_ns: moment.at_ns, track, shape, arguments, flow });
    }
}

/// Words as an argument.
fn text(words: &str) -> Value {
    Value::Text(shortened(words, TEXT_BYTES))
}

/// Words as a name.
fn name(words: &str) -> String {
    shortened(words, NAME_BYTES)
}
