//! A guest whose agent answers nothing: what its processors and tasks do, seen from outside, and then what its kernel says to a
//! non-maskable interrupt, which ends it.

use std::time::Duration;

use plugstorm_observe::hang::{Evidence, HangReport, Processor, ProcessorReport, StackedTask, explain};
use plugstorm_observe::kernel::MOST_FRAMES;

use super::engine::{Storm, Trouble, last_words};
use super::guest::Sight;
use super::hearing::{agent_ended_trouble, readable_text};
use super::look::is_idle;
use super::stuck::{Stuck, function};
use crate::results::{EventKind, FindingKind};

/// Places named of a guest that answers nothing: as many as it may have CPUs.
const MOST_PLACES: usize = 16;
/// A CPU that waits for an interrupt.
const IDLE: &str = "idle";
/// How long the report of a non-maskable interrupt may take at least, in nanoseconds.
const NMI_REPORT_NS: u64 = 15_000_000_000;
/// The agent: the guest's first process.
const AGENT: u32 = 1;

/// What two looks from outside gave.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) processors: ProcessorReport,
    /// Who waits for whom, where the guest's tasks could be read.
    hang: Option<HangReport>,
    /// What the agent does, as a sentence.
    agent: Option<String>,
    has_symbols: bool,
    /// What was not seen of its tasks, as a sentence.
    unseen: Option<String>,
}

impl Storm<'_> {
    /// The agent answers nothing. A report of the kernel's before does not explain that: both stand.
    pub(super) fn silent(&mut self, what: &Stuck) -> Result<Trouble, Trouble> {
        if self.now.agent_ended {
            return Ok(agent_ended_trouble());
        }
        let during = match what {
            Stuck::Removal => "during a removal",
            Stuck::Add { .. } => "during an add",
            Stuck::Start { .. } => "during the start of a hammer",
            Stuck::Hammer { .. } => "during the end of a hammer",
            Stuck::Program { .. } => "while a program ran",
            Stuck::Points => "at the end of a cycle",
            Stuck::Leaks => "while its kernel looked for leaks",
            Stuck::End => "after the last cycle",
        };
        let words = last_words(&self.now.console.tail());
        let (seen, trouble) = kept(self.look_from_outside(&[]));
        let asked = if trouble.is_none() { self.ask_by_nmi() } else { Ok(()) };
        if self.now.agent_ended {
            return Ok(agent_ended_trouble());
        }
        let report = self.now.nmi_report.take();
        let answer = match (&report, &asked) {
            (Some(report), _) => match places(report) {
                none if none.is_empty() => "it panicked at a non-maskable interrupt, as it should".to_owned(),
                idle if idle.iter().all(|place| place == IDLE) => {
                    "a non-maskable interrupt found its CPUs idle, so its agent sleeps in a call that does not return"
                        .to_owned()
                }
                places => format!("a non-maskable interrupt found its CPUs in {}", places.join(", ")),
            },
            (None, _) if trouble.is_some() => "the run was ended before it could be asked".to_owned(),
            (None, Err(Trouble::Failed(reason) | Trouble::Host(reason))) => {
                format!("at a non-maskable interrupt {reason}")
            }
            (None, _) if self.now.panicked_ns.is_some() => "it panicked at a non-maskable interrupt".to_owned(),
            (None, _) => "it did not react to a non-maskable interrupt in time".to_owned(),
        };
        let mut sentences = vec![format!(
            "It has not ended, but its agent answers nothing, not even a ping: the kernel spins, or starves or blocks its first \
             process; {answer}{words}."
        )];
        if let Some(seen) = &seen {
            sentences.push(format!("Seen from outside: {}", seen.processors.explanation));
            if !seen.has_symbols {
                sentences.push("Its kernel's symbols were not found in its memory.".to_owned());
            }
            sentences.extend(seen.unseen.clone());
            sentences.extend(seen.agent.clone());
            sentences.extend(seen.hang.as_ref().map(|hang| hang.explanation.clone()));
        }
        let title = format!("the guest stopped answering {during}");
        let mut finding = self.finding(FindingKind::GuestSilent, title, sentences.join(" "));
        finding.splat = report;
        if let Some(seen) = seen {
            finding.processors = Some(seen.processors);
            // Its title is not this one's: a guest that died of a known hang is more than that hang.
            finding.hang = seen.hang;
        }
        let found = self.found(finding)?;
        // The finding stands; the user's wish and a full disk still end the run.
        trouble.or(kept(asked).1).map_or(Ok(found), Err)
    }

    /// Two looks at the guest's processors and tasks, some time apart. Nothing if it has ended, or cannot be looked at. `told`: what
    /// the agent says of its tasks, where it does, for comparison.
    pub(super) fn look_from_outside(&mut self, told: &[StackedTask]) -> Result<Option<Seen>, Trouble> {
        // What cannot be seen is not the user's trouble: there is the guest's own answer still.
        let Ok(Some(first)) = self.set.guest.look() else { return Ok(None) };
        let began_ns = self.set.guest.now_ns();
        let Comparison { compared, alike, difference } = Comparison::of(&first.tasks, told);
        let (processors, tasks) = (first.processors.len(), first.tasks.len());
        self.host(EventKind::SeenFromOutside { processors, tasks, compared, alike, difference })?;
        self.rest(self.scaled(Duration::from_millis(500)).min(5_000_000_000))?;
        let second = self.set.guest.look().ok().flatten().unwrap_or_default();
        let between_ns = self.set.guest.now_ns().saturating_sub(began_ns);
        let open = self.timings.open();
        let hang = explain(&Evidence {
            first: &first.tasks,
            second: &second.tasks,
            open: &open,
            clock: None,
            balances: &[],
            locks: self.now.console.locks(),
        });
        // An open span alone is less than what can be seen: the event of its end may not have been sent any more.
        let hang = hang.filter(|hang| !hang.waiters.is_empty());
        let ticks = first.ticks.zip(second.ticks).map(|(first, second)| second.wrapping_sub(first));
        let (agent, has_symbols, unseen) = (agent(&first, &second), first.has_symbols, first.unseen());
        let processors = ProcessorReport::new(first.processors, &second.processors, ticks, between_ns);
        Ok(Some(Seen { processors, hang, agent, has_symbols, unseen }))
    }

    /// Makes a guest that answers nothing show where it is, which ends it.
    fn ask_by_nmi(&mut self) -> Result<(), Trouble> {
        self.now.nmi_sent = true;
        self.host(EventKind::NmiSent {})?;
        self.set.guest.send_nmi();
        // A CPU that takes no interrupt either is waited for by the kernel for 10 s (lib/nmi_backtrace.c).
        let time_out_ns = self.scaled(Duration::from_secs(2)).max(NMI_REPORT_NS);
        match self.wait(time_out_ns, |now| now.nmi_report.as_ref().map(|_| ())) {
            // The end of the guest that we have asked for.
            Ok(_) | Err(Trouble::Found) => {}
            Err(other) => return Err(other),
        }
        self.finish_console().map(|_| ())
    }
}

/// What came of a look at a guest of which a finding is to be told, whatever the look met; and what ends the run all the same.
pub(super) fn kept<T: Default>(look: Result<T, Trouble>) -> (T, Option<Trouble>) {
    match look {
        Ok(seen) => (seen, None),
        Err(end @ (Trouble::Interrupted | Trouble::Output(_))) => (T::default(), Some(end)),
        // The guest ended, or its emulator failed it: what is told was so before.
        Err(_) => (T::default(), None),
    }
}

/// What the agent has told of tasks that have not run since, beside what is in the guest's memory.
#[derive(Debug, Default)]
struct Comparison {
    compared: usize,
    alike: usize,
    /// The first frame that is not the same, as a sentence.
    difference: Option<String>,
}

impl Comparison {
    fn of(seen: &[StackedTask], told: &[StackedTask]) -> Self {
        let mut comparison = Self::default();
        for task in told.iter().filter(|task| !task.stack.is_empty()) {
            let same =
                |other: &&StackedTask| other.tid == task.tid && other.switches == task.switches && other.state != 'R';
            let Some(other) = seen.iter().find(same) else { continue };
            comparison.compared += 1;
            if other.stack == task.stack {
                comparison.alike += 1;
            } else if comparison.difference.is_none() {
                let frames = (0..MOST_FRAMES).map(|at| (other.stack.get(at), task.stack.get(at)));
                let differing = frames.into_iter().find(|(seen, told)| seen != told);
                let word =
                    |frame: Option<&String>| frame.map_or_else(|| "nothing".to_owned(), |frame| readable_text(frame));
                comparison.difference = differing.map(|(seen, told)| {
                    format!("{} ({}): {} where the agent tells of {}", task.comm, task.tid, word(seen), word(told))
                });
            }
        }
        comparison
    }
}

/// What keeps the agent from answering. Its first thread is the one that reads the port.
fn agent(first: &Sight, second: &Sight) -> Option<String> {
    let find = |sight: &Sight| -> Option<StackedTask> { sight.tasks.iter().find(|task| task.tid == AGENT).cloned() };
    let (before, after) = (find(first)?, find(second)?);
    let moved = before.switches != after.switches;
    let place = after.stack.iter().find(|frame| !frame.starts_with('?')).map(|frame| function(frame));
    let runs_on = |sight: &Sight| {
        let its = |processor: &&Processor| processor.task.as_ref().is_some_and(|task| task.tid == AGENT);
        sight.processors.iter().find(its).map(|processor| processor.cpu)
    };
    if let (Some(_), Some(cpu)) = (runs_on(first), runs_on(second)) {
        return Some(format!("The agent itself is what vCPU {cpu} executes, and does not come to its messages."));
    }
    Some(match (after.state, moved, place) {
        (_, true, _) => "The agent did run between the two looks, however late it answers.".to_owned(),
        ('R', false, _) => {
            "The agent is ready to run and was given no processor between the two looks: what runs is more urgent, or does not \
             let go."
                .to_owned()
        }
        // Where it waits when all is well.
        (_, false, Some(place @ ("do_epoll_wait" | "ep_poll"))) => {
            format!("The agent waits for messages in {place}: what was sent has not reached it.")
        }
        (_, false, Some(place)) => format!("The agent sleeps in {place} and did not run between the two looks."),
        (_, false, None) => "The agent sleeps and did not run between the two looks.".to_owned(),
    })
}

/// Where a panic's report says that its CPUs were, once each: the first place after each line that names a CPU. What
/// follows below is what those places had interrupted, down to the program that made the call.
fn places(report: &str) -> Vec<String> {
    let mut places: Vec<String> = Vec::new();
    let mut awaited = false;
    for line in report.lines() {
        if line.contains("skipped: idling") {
            add_place(&mut places, IDLE);
            awaited = false;
        } else if line.contains("CPU: ") || line.contains("NMI backtrace for cpu") {
            awaited = true;
        } else if let Some((_, place)) = line.split_once("RIP: 00").filter(|_| awaited) {
            awaited = false;
            // `10:function+0x1/0x2` for the kernel, `33:0x7f00…` for a program.
            match place.split_once(':') {
                Some(("10", kernel)) => {
                    let name = function(kernel);
                    add_place(&mut places, if is_idle(name) { IDLE } else { name });
                }
                Some(("33", _)) => add_place(&mut places, "a program"),
                _ => {}
            }
        }
    }
    places
}

fn add_place(places: &mut Vec<String>, place: &str) {
    if !places.iter().any(|known| known == place) && places.len() < MOST_PLACES {
        places.push(place.to_owned());
    }
}
