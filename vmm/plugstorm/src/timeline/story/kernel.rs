//! The guest's trace: functions entered and left, by task; and waits for readers, by who waits.

use std::collections::BTreeMap;

use plugstorm_observe::trace::{Role, Span, TraceEvent, probe};

use super::{MOST_CPUS, MOST_ROWS, Moment, Story, name, text};
use crate::timeline::track::{Arguments, Shape, Track};

/// Waits of one function at a time that get a row each.
const MOST_LANES: usize = 16;

/// The mode of a wait whose kernel does not tell it.
const UNKNOWN: &str = "unknown";

/// Waits for readers that are under way, by task.
#[derive(Debug, Default)]
pub(super) struct Waits {
    open: BTreeMap<u32, Wait>,
    lanes: BTreeMap<String, Vec<bool>>,
}

#[derive(Debug)]
struct Wait {
    began: Moment,
    function: &'static str,
    caller: String,
    lane: usize,
    mode: &'static str,
    arguments: Arguments,
}

impl Wait {
    fn title(&self) -> String {
        if self.mode == UNKNOWN { "mode unknown".to_owned() } else { self.mode.to_owned() }
    }
}

impl Waits {
    /// A row of the caller's that nobody waits on.
    fn lane(&mut self, caller: &str) -> Option<usize> {
        if !self.lanes.contains_key(caller) && self.lanes.len() >= MOST_ROWS {
            return None;
        }
        let lanes = self.lanes.entry(caller.to_owned()).or_default();
        let free = lanes.iter().position(|taken| !taken).unwrap_or(lanes.len());
        match lanes.get_mut(free) {
            Some(lane) => *lane = true,
            None if free < MOST_LANES => lanes.push(true),
            None => return None,
        }
        Some(free)
    }

    fn release(&mut self, wait: &Wait) {
        if let Some(lane) = self.lanes.get_mut(&wait.caller).and_then(|lanes| lanes.get_mut(wait.lane)) {
            *lane = false;
        }
    }
}

/// What the kernel prints for a task whose name it has not recorded (`__trace_find_cmdline()` in
/// kernel/trace/trace_sched_switch.c). Its later events mostly have one.
const NAMELESS: &str = "<...>";

/// The rows of tasks: by name, since a storm's threads are new ones in each cycle. Those without a name share theirs too.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    pub(super) by_pid: BTreeMap<u32, Task>,
    /// Whose each row is, by name.
    owners: BTreeMap<String, Vec<u32>>,
}

#[derive(Debug)]
pub(super) struct Task {
    name: String,
    lane: usize,
}

impl Tasks {
    /// The task's row. A row that is not busy goes to the next task of its name.
    pub(super) fn row(&mut self, pid: u32, told: String, is_busy: impl Fn(&Track) -> bool) -> Track {
        if let Some(known) = self.by_pid.get(&pid) {
            let track = Track::Task { name: known.name.clone(), lane: known.lane };
            // A name that is told late counts once what is under way has ended: it ends where it began.
            let is_late = known.name == NAMELESS && is_busy(&track);
            if told == NAMELESS || told == known.name || is_late {
                return track;
            }
        }
        let track = |lane| Track::Task { name: told.clone(), lane };
        if !self.owners.contains_key(&told) && self.owners.len() >= MOST_ROWS {
            return track(0);
        }
        let owners = self.owners.entry(told.clone()).or_default();
        let lane = (0..owners.len()).find(|lane| !is_busy(&track(*lane))).unwrap_or(owners.len());
        match owners.get_mut(lane) {
            Some(owner) => {
                let before = std::mem::replace(owner, pid);
                if self.by_pid.get(&before).is_some_and(|task| task.name == told && task.lane == lane) {
                    self.by_pid.remove(&before);
                }
            }
            None => owners.push(pid),
        }
        let row = track(lane);
        self.by_pid.insert(pid, Task { name: told, lane });
        row
    }
}

impl Story {
    pub(super) fn traced(&mut self, moment: Moment, event: &TraceEvent) {
        let task = self.tasks.row(event.pid, name(&event.task), |track| self.open.contains_key(track));
        if event.cpu < MOST_CPUS {
            let arguments = vec![("task", text(&event.task)), ("tid", event.pid.into())];
            self.instant(moment, Track::Cpu(event.cpu), name(&event.name), arguments);
        }
        let Some(probe) = probe(&event.name) else {
            self.instant(moment, task, name(&event.name), fields(event));
            return;
        };
        match probe.role {
            Role::Begin(span) => {
                // Entered again before it returned: these functions do not call themselves, so the return was lost.
                self.end(moment.at_ns, &task, probe.symbol, vec![("ended", "not told".into())]);
                let flow = self.hotplug.entered(moment.at_ns, span);
                let mut arguments: Arguments =
                    vec![("function", probe.symbol.into()), ("tid", event.pid.into()), ("cpu", event.cpu.into())];
                arguments.extend(fields(event));
                self.begin(moment, task, probe.symbol, span.describe().to_owned(), arguments, flow);
                if span == Span::GracePeriod {
                    self.wait_begins(moment, event, probe.symbol);
                }
            }
            Role::End(span) => {
                let mut arguments = Arguments::new();
                if span == Span::GracePeriod {
                    arguments.extend(self.waits.open.get(&event.pid).map(|wait| ("mode", wait.mode.into())));
                    self.wait_ends(moment, event.pid, probe.symbol);
                }
                if !self.end(moment.at_ns, &task, probe.symbol, arguments) {
                    let words = format!("{} returns, and its entry was not told", probe.symbol);
                    self.instant(moment, task, words, Vec::new());
                }
            }
            Role::GracePeriodMode => {
                let mode = match event.field("do_norm") {
                    Some("0") => "expedited",
                    Some(_) => "ordinary",
                    None => UNKNOWN,
                };
                if let Some(wait) = self.waits.open.get_mut(&event.pid) {
                    wait.mode = mode;
                }
            }
            _ => {}
        }
    }

    fn wait_begins(&mut self, began: Moment, event: &TraceEvent, function: &'static str) {
        match self.waits.open.get(&event.pid) {
            // `synchronize_srcu()` may go on to the other function: still one wait.
            Some(outer) if outer.function != function => return,
            Some(_) => self.wait_is_forgotten(event.pid),
            None => {}
        }
        let caller = event.caller().map_or_else(|| "an unknown caller".to_owned(), |caller| name(&caller.to_string()));
        if self.waits.open.len() >= MOST_ROWS {
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        let Some(lane) = self.waits.lane(&caller) else {
            self.left_out = self.left_out.saturating_add(1);
            return;
        };
        let mode = if function == "synchronize_srcu_expedited" { "expedited" } else { UNKNOWN };
        let mut arguments: Arguments = vec![("task", text(&event.task)), ("tid", event.pid.into())];
        arguments.extend(event.field("domain").map(|domain| ("domain", text(domain))));
        self.waits.open.insert(event.pid, Wait { began, function, caller, lane, mode, arguments });
    }

    /// Drawn at its end: only then its mode is known.
    fn wait_ends(&mut self, moment: Moment, pid: u32, function: &str) {
        if self.waits.open.get(&pid).is_none_or(|wait| wait.function != function) {
            return;
        }
        let Some(wait) = self.waits.open.remove(&pid) else { return };
        self.waits.release(&wait);
        let title = wait.title();
        let track = Track::GracePeriods { caller: wait.caller, lane: wait.lane };
        self.mark(wait.began, track.clone(), Shape::Begin(title), wait.arguments, None);
        self.mark(moment, track, Shape::End, Vec::new(), None);
    }

    fn wait_is_forgotten(&mut self, pid: u32) {
        if let Some(wait) = self.waits.open.remove(&pid) {
            self.waits.release(&wait);
        }
    }

    /// Those of a guest that is gone by `at_ns`; without it, those that go on at the end of the file.
    pub(super) fn waits_that_never_ended(&mut self, at_ns: Option<u64>) {
        self.waits.lanes.clear();
        for (_, wait) in std::mem::take(&mut self.waits.open) {
            let title = format!("{}, and never ended", wait.title());
            let track = Track::GracePeriods { caller: wait.caller, lane: wait.lane };
            self.mark(wait.began, track.clone(), Shape::Begin(title), wait.arguments, None);
            if let Some(at_ns) = at_ns {
                self.mark(Moment { at_ns, ..wait.began }, track, Shape::End, Vec::new(), None);
            }
        }
    }
}

fn fields(event: &TraceEvent) -> Arguments {
    let known = ["domain", "caller", "do_norm"];
    let told = known.iter().filter_map(|&key| event.field(key).map(|value| (key, text(value))));
    let returned_to = event.returned_to.as_ref().map(|place| ("returned_to", text(&place.to_string())));
    told.chain(returned_to).collect()
}
