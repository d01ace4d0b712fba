//! Why something did not end: is the agent alive, where do the guest's tasks sit, have they moved?

use std::time::Duration;

use plugstorm_observe::hang::{Clock, DomainBalance, Evidence, HangReport, Movement, StackedTask, explain};
use plugstorm_wire::{FromGuest, HangingThread, TaskStack, ToGuest};

use super::balance::balances;
use super::engine::{Storm, Trouble, last_words, seconds};
use super::silent::kept;
use crate::results::{EventKind, Finding, FindingKind};

/// Tasks taken from a dump.
const MOST_TASKS: usize = 4096;

/// What did not end.
#[derive(Debug, Clone)]
pub(super) enum Stuck {
    /// The removal being waited for.
    Removal,
    /// A device did not come.
    Add { device: usize },
    /// A hammer did not begin.
    Start { hammer: usize },
    /// A hammer did not end.
    Hammer { hammer: usize, hanging: Vec<HangingThread> },
    /// A program that runs as a step did not end.
    Program { program: usize },
    /// The agent did not say how often points were reached.
    Points,
    /// The guest's kernel was asked for what it has lost.
    Leaks,
    /// The agent did not answer after the last cycle.
    End,
}

/// What two looks at the guest gave.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// The agent answered.
    alive: bool,
    pub(super) first: Vec<StackedTask>,
    pub(super) second: Vec<StackedTask>,
    pub(super) report: Option<HangReport>,
}

/// One list of the guest's tasks.
#[derive(Debug, Default)]
struct Dump {
    tasks: Vec<StackedTask>,
    now_ticks: Option<u64>,
    balances: Vec<DomainBalance>,
}

impl Look {
    /// Whoever carries the removal out was somewhere else the second time, or nobody was seen at it: it may get on, however
    /// slowly.
    fn gets_on(&self) -> bool {
        let first = self.report.as_ref().and_then(|report| report.waiters.first());
        first.is_none_or(|waiter| waiter.movement == Movement::Elsewhere)
    }
}

impl Storm<'_> {
    /// Finds out why something did not end within `after_ns`.
    pub(super) fn examine(&mut self, what: Stuck, after_ns: u64) -> Result<Trouble, Trouble> {
        let mut look = self.look()?;
        // A guest that gets on, or of which nobody can say what it does, is given the same time again, once.
        if matches!(what, Stuck::Removal) && look.alive && look.gets_on() && !self.removal_has_finished() {
            self.wait(after_ns, |now| now.removal.as_ref()?.finished_ns())?;
            look = self.look()?;
        }
        // The kernel may have said it first, and better.
        let splats = self.finish_console()? || self.tainted;
        match what {
            Stuck::Removal if self.removal_has_finished() => self.removal_slow(look, after_ns),
            _ if !look.alive => self.silent(&what),
            Stuck::Removal => self.removal_stuck(look, after_ns, splats),
            Stuck::Add { device } => self.add_stuck(device, look, after_ns, splats),
            Stuck::Start { hammer } => {
                let name = self.hammer_name(hammer);
                match look.report {
                    Some(report) => self.hang_finding(FindingKind::HammerStuck, report, ""),
                    None if splats => Ok(Trouble::Found),
                    None => Ok(Trouble::Failed(format!(
                        "hammer `{name}` did not start within {}{}",
                        seconds(after_ns),
                        self.awaited_node(hammer)
                    ))),
                }
            }
            Stuck::Hammer { hammer, hanging } => self.hammer_stuck(hammer, &hanging, look, after_ns, splats),
            Stuck::Program { program } => self.program_stuck(program, look, after_ns, splats),
            Stuck::Points => Ok(Trouble::Failed(format!(
                "the agent did not tell how often points were reached within {}, though it answers",
                seconds(after_ns)
            ))),
            Stuck::Leaks => Ok(Trouble::Failed(format!(
                "the guest's kernel did not look for leaks within {}, though the agent answers",
                seconds(after_ns)
            ))),
            Stuck::End => Ok(Trouble::Failed(format!(
                "the agent did not send the rest of its trace within {}, though it answers",
                seconds(after_ns)
            ))),
        }
    }

    /// Two dumps of the guest's tasks, some time apart.
    fn look(&mut self) -> Result<Look, Trouble> {
        let mut look = Look::default();
        let id = self.id();
        // A channel that takes no more is as good as no answer.
        if self.set.guest.send(&ToGuest::Ping { id }).is_err()
            || self.answer(id, self.scaled(Duration::from_secs(1)))?.is_none()
        {
            return Ok(look);
        }
        look.alive = true;
        let id = self.id();
        if self.set.guest.send(&ToGuest::FlushTrace { id }).is_ok() {
            self.answer(id, self.scaled(Duration::from_secs(1)))?;
        }
        let first = self.dump()?;
        self.list_locks()?;
        self.rest(self.scaled(Duration::from_millis(500)).min(5_000_000_000))?;
        let second = self.dump()?;
        let open = self.timings.open();
        let tsc_khz = u64::from(self.set.guest.tsc_khz());
        let clock = second.now_ticks.map(|now_ticks| Clock { now_ticks, tsc_khz });
        (look.first, look.second) = (first.tasks, second.tasks);
        look.report = explain(&Evidence {
            first: &look.first,
            second: &look.second,
            open: &open,
            clock,
            balances: &second.balances,
            locks: self.now.console.locks(),
        });
        // A span that is open though none of the guest's tasks is in it: the event of its end was lost.
        let nobody = look.report.as_ref().is_some_and(|report| report.waiters.is_empty());
        if nobody && !look.second.is_empty() {
            look.report = None;
        }
        Ok(look)
    }

    fn dump(&mut self) -> Result<Dump, Trouble> {
        let id = self.id();
        if self.set.guest.send(&ToGuest::DumpTasks { id }).is_err() {
            return Ok(Dump::default());
        }
        let Some((_, FromGuest::Tasks { tsc, tasks, left_out, states, points, .. })) =
            self.answer(id, self.scaled(Duration::from_secs(5)))?
        else {
            return Ok(Dump::default());
        };
        self.guest_says(EventKind::TasksListed { tasks: tasks.len(), left_out }, Some(tsc))?;
        if !points.is_empty() {
            self.points_told(&points, tsc)?;
        }
        Ok(Dump {
            tasks: tasks.into_iter().take(MOST_TASKS).map(stacked).collect(),
            now_ticks: Some(tsc),
            balances: balances(&states),
        })
    }

    fn removal_has_finished(&self) -> bool {
        self.now.removal.as_ref().is_some_and(|removal| removal.finished_ns().is_some())
    }

    /// It ended while it was looked at.
    fn removal_slow(&mut self, look: Look, after_ns: u64) -> Result<Trouble, Trouble> {
        let Some(removal) = self.now.removal.clone() else { return Ok(Trouble::Found) };
        self.note_finished()?;
        let took = seconds(removal.finished_ns().unwrap_or(removal.asked_ns).saturating_sub(removal.asked_ns));
        let finding = self.finding(
            FindingKind::RemovalSlow,
            format!("removal ({}) slower than its time-out", removal.how.name()),
            format!("It took {took}; the time-out, with the measured slowdown, is {}.", seconds(after_ns)),
        );
        self.found(Finding { hang: look.report, ..finding })
    }

    /// A hang is claimed only with a task that carries the removal out and gets nowhere. Without one the guest has not
    /// told of an end that may have been: that proves nothing.
    fn removal_stuck(&mut self, look: Look, after_ns: u64, splats: bool) -> Result<Trouble, Trouble> {
        let Some(removal) = self.now.removal.clone() else { return Ok(Trouble::Found) };
        let (device, how) = (self.device_name(removal.device), removal.how);
        let Some(report) = look.report else {
            if splats {
                return Ok(Trouble::Found);
            }
            return Ok(Trouble::Failed(format!(
                "the guest did not confirm the removal ({}) of device `{device}` within {}, and none of its tasks is carrying \
                 one out: its message was lost, or this kernel sends none{}{}",
                how.name(),
                seconds(after_ns),
                stacks(&look.second),
                last_words(&self.now.console.tail())
            )));
        };
        let moves = report.waiters.first().is_some_and(|waiter| waiter.movement == Movement::Elsewhere);
        self.record.removals.entry(how).or_default().stuck += 1;
        let on = report.title.clone();
        self.host(EventKind::RemovalStuck { cycle: self.cycle, device: device.clone(), how, after_ns, on })?;
        let seen = match removal.seen {
            Some(_) => "The guest took note of it",
            None => "The guest did not even take note of it",
        };
        let asked = format!(
            "Device `{device}` was taken away ({}) in cycle {}. {seen}, and it had not ended after {}.",
            how.name(),
            self.cycle_told(),
            seconds(after_ns)
        );
        if moves {
            // Twice its time and still at work: that it never ends has not been shown.
            let title = format!("removal ({}) slower than its time-out, and still moving", how.name());
            let finding = self.finding(FindingKind::RemovalSlow, title, format!("{asked} {}", report.explanation));
            return self.found(Finding { hang: Some(report), ..finding });
        }
        // Whether anything runs at all; and the stacks that the guest tells of are compared with those in its memory.
        let (seen, trouble) = kept(self.look_from_outside(&look.second));
        let explanation = format!("{asked} {}", report.explanation);
        let finding = self.finding(FindingKind::RemovalStuck, report.title.clone(), explanation);
        let processors = seen.map(|seen| seen.processors);
        let found = self.found(Finding { hang: Some(report), processors, ..finding })?;
        // The hang stands; the user's wish and a full disk still end the run.
        trouble.map_or(Ok(found), Err)
    }

    fn hang_finding(&mut self, kind: FindingKind, report: HangReport, before: &str) -> Result<Trouble, Trouble> {
        let explanation = format!("{before} {}", report.explanation).trim().to_owned();
        let finding = self.finding(kind, report.title.clone(), explanation);
        self.found(Finding { hang: Some(report), ..finding })
    }

    fn add_stuck(&mut self, device: usize, look: Look, after_ns: u64, splats: bool) -> Result<Trouble, Trouble> {
        let name = self.device_name(device);
        let sentence = format!("device `{name}` was plugged in, and no node for it came within {}", seconds(after_ns));
        match look.report {
            Some(report) => self.hang_finding(FindingKind::AddStuck, report, &format!("{sentence}.")),
            None if splats => Ok(Trouble::Found),
            None => {
                let failed = self.record.modules.iter().find_map(|module| Some((&module.file, module.error.as_ref()?)));
                let why = match failed {
                    Some((file, error)) => format!("; the guest could not load {file}: {error}"),
                    None => self.missing_driver(device),
                };
                Ok(Trouble::Failed(format!("{sentence}{why}")))
            }
        }
    }

    fn hammer_stuck(
        &mut self,
        hammer: usize,
        hanging: &[HangingThread],
        look: Look,
        after_ns: u64,
        splats: bool,
    ) -> Result<Trouble, Trouble> {
        let name = self.hammer_name(hammer);
        let own: Vec<StackedTask> = look
            .second
            .iter()
            .filter(|task| task.hammer.as_deref() == Some(&name) || hanging.iter().any(|thread| thread.tid == task.tid))
            .cloned()
            .collect();
        // Whoever was still away when the report was written and is in no call now has come back, only late.
        let own: Vec<StackedTask> = own.into_iter().filter(|task| !task.stack.is_empty()).collect();
        if own.is_empty() {
            return match (look.report, splats) {
                (Some(report), _) => self.hang_finding(FindingKind::HammerStuck, report, ""),
                (None, true) => Ok(Trouble::Found),
                (None, false) => Ok(Trouble::Failed(format!(
                    "the agent did not report on hammer `{name}` within {}, though it answers",
                    seconds(after_ns)
                ))),
            };
        }
        let place = own.iter().find_map(|task| task.stack.first()).map(|frame| function(frame).to_owned());
        let place = place.unwrap_or_else(|| "an unknown place".into());
        let title = format!("threads do not come back from the kernel: {place}");
        let explanation = format!(
            "Hammer `{name}` was told to end in cycle {}; after {} {} of its threads had not come back from a call.{}",
            self.cycle_told(),
            seconds(after_ns),
            hanging.len().max(own.len()),
            stacks(&own)
        );
        let finding = self.finding(FindingKind::HammerStuck, title, explanation);
        self.found(Finding { hang: look.report, ..finding })
    }
}

/// `linereq_read+0x12/0x40` is `linereq_read`.
pub(super) fn function(frame: &str) -> &str {
    frame.split(['+', ' ']).next().unwrap_or(frame)
}

/// Some stacks as text.
pub(super) fn stacks(tasks: &[StackedTask]) -> String {
    let each = tasks.iter().filter(|task| task.state == 'D' || task.hammer.is_some()).take(4);
    each.map(|task| {
        let frames: Vec<_> = task.stack.iter().take(12).map(String::as_str).collect();
        format!("\n{} ({}, {}): {}", task.comm, task.tid, task.state, frames.join(" <- "))
    })
    .collect()
}

fn stacked(task: TaskStack) -> StackedTask {
    StackedTask {
        pid: task.pid,
        tid: task.tid,
        comm: task.comm,
        state: task.state,
        switches: task.switches,
        stack: task.stack,
        hammer: task.hammer,
        operation: task.operation.map(crate::scenario::operation_name),
    }
}
