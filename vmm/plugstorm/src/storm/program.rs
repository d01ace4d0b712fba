//! The step that runs a program of the scenario's.

use plugstorm_observe::hang::StackedTask;
use plugstorm_wire::{FromGuest, PROGRAM_OUTPUT_BYTES, ProgramEnd, ToGuest, program_label};

use super::engine::{Storm, Trouble, last_words, seconds};
use super::hearing::{cut, readable_text};
use super::stuck::{Look, Stuck, function, stacks};
use crate::results::{EventKind, Finding, FindingKind};
use crate::scenario::{Driver, Work};

/// Lines of a program's output that a finding shows: its last ones.
const SHOWN_LINES: usize = 20;
/// A word of the agent's is cut here, in bytes.
const WORD_BYTES: usize = 64;
/// Where a task waits because it chose to, for a time, a signal or another task of the program's: that says nothing of the kernel.
/// By their functions in kernel/time/hrtimer.c, kernel/signal.c, kernel/futex, fs/select.c, fs/eventpoll.c, fs/pipe.c, kernel/exit.c.
const OWN_CHOICE: [&str; 14] = [
    "do_nanosleep",
    "__do_sys_pause",
    "sigsuspend",
    "do_sigtimedwait",
    "__futex_wait",
    "futex_wait",
    "futex_wait_queue",
    "do_sys_poll",
    "do_select",
    "do_epoll_wait",
    "ep_poll",
    "pipe_read",
    "pipe_write",
    "do_wait",
];

impl Storm<'_> {
    pub(super) fn run_program(&mut self, program: usize) -> Result<(), Trouble> {
        let Some(spec) = self.set.scenario.programs.get(program) else { return Ok(()) };
        let command_line = spec.program.join(" ");
        self.host(EventKind::ProgramAsked { cycle: self.cycle, program: command_line.clone() })?;
        let id = self.id();
        self.set.guest.send(&ToGuest::RunProgram { id, program: spec.program.clone() })?;
        let time_out_ns = self.scaled(spec.time_out);
        match self.answer(id, time_out_ns)? {
            Some((_, FromGuest::ProgramEnded { began_tsc, ended_tsc, end, output, output_bytes, .. })) => {
                let output = cut(readable_text(&output), PROGRAM_OUTPUT_BYTES);
                let ns = self.ticks_to_ns(ended_tsc.saturating_sub(began_tsc));
                let ended = EventKind::ProgramEnded {
                    cycle: self.cycle,
                    program: command_line,
                    end: words(&end),
                    ns,
                    output: output.clone(),
                    output_bytes,
                };
                self.guest_says(ended, Some(ended_tsc))?;
                if end == ProgramEnd::Exited(spec.expect.into()) {
                    return Ok(());
                }
                Err(self.program_failed(program, &end, &output, output_bytes)?)
            }
            Some((_, FromGuest::Done { error: Some(error), .. })) => {
                let error = cut(readable_text(&error), PROGRAM_OUTPUT_BYTES);
                Err(Trouble::User(format!("in cycle {}: {error}", self.cycle_told())))
            }
            Some(_) => Err(Trouble::Failed(format!(
                "the agent's answer to running `{command_line}` belongs to another question"
            ))),
            None => Err(self.examine(Stuck::Program { program }, time_out_ns)?),
        }
    }

    fn ticks_to_ns(&self, ticks: u64) -> u64 {
        let ns = (u128::from(ticks) * 1_000_000).checked_div(u128::from(self.set.guest.tsc_khz())).unwrap_or(0);
        u64::try_from(ns).unwrap_or(u64::MAX)
    }

    fn program_failed(
        &mut self,
        program: usize,
        end: &ProgramEnd,
        output: &str,
        output_bytes: u64,
    ) -> Result<Trouble, Trouble> {
        // The kernel may have said why.
        self.finish_console()?;
        let Some(spec) = self.set.scenario.programs.get(program) else { return Ok(Trouble::Found) };
        let title = format!("{} ended with {}, not exit {}", program_label(&spec.program), words(end), spec.expect);
        let explanation = format!(
            "`{}` was run in cycle {}.{}",
            spec.program.join(" "),
            self.cycle_told(),
            wrote(output, output_bytes)
        );
        let finding = self.finding(FindingKind::ProgramFailed, title, explanation);
        self.found(finding)
    }

    /// It is a hang only if one of its tasks waits in the kernel, not by its own choice, and has not moved between two looks.
    /// Else it may get on, or waits for itself.
    pub(super) fn program_stuck(
        &mut self,
        program: usize,
        look: Look,
        after_ns: u64,
        splats: bool,
    ) -> Result<Trouble, Trouble> {
        let Some(spec) = self.set.scenario.programs.get(program) else { return Ok(Trouble::Found) };
        let (label, command_line) = (program_label(&spec.program), spec.program.join(" "));
        let own: Vec<StackedTask> =
            look.second.iter().filter(|task| task.hammer.as_deref() == Some(&label)).cloned().collect();
        let waits = |task: &&StackedTask| {
            let before = look.first.iter().find(|first| first.tid == task.tid);
            let still = before.is_some_and(|first| first.switches == task.switches);
            !task.stack.is_empty() && still && !waits_by_choice(task)
        };
        let place = own.iter().filter(waits).min_by_key(|task| task.state != 'D');
        let place = place.and_then(|task| task.stack.first()).map(|frame| function(frame).to_owned());
        let sentence = format!(
            "`{command_line}` was run in cycle {}, and had not ended after {}.{}",
            self.cycle_told(),
            seconds(after_ns),
            stacks(&own)
        );
        match place {
            Some(place) => {
                let finding =
                    self.finding(FindingKind::ProgramStuck, format!("{label} does not end: {place}"), sentence);
                self.found(Finding { hang: look.report, ..finding })
            }
            None if splats => Ok(Trouble::Found),
            None => Ok(Trouble::Failed(format!(
                "{label} did not end within {}, and nothing of it is stuck in the kernel: give it more time, or mend it{}",
                seconds(after_ns),
                last_words(&self.now.console.tail())
            ))),
        }
    }

    /// Why a device may not have come. As the end of a sentence.
    pub(super) fn missing_driver(&self, device: usize) -> String {
        match self.set.scenario.devices.get(device).map(|device| (device.driver, device.node.as_deref())) {
            Some((Driver::Other { vendor, .. }, node)) => {
                let sign = node.map_or_else(String::new, |node| format!(", and make a node {node} below it"));
                format!("; does a driver of yours take virtio-gpio devices of vendor {vendor:#06x}{sign}?")
            }
            _ => "; does this kernel have a driver for it, built in or among the modules of `plugstorm kernel list`?"
                .into(),
        }
    }

    /// What a hammer that does not start may be waiting for. As the end of a sentence.
    pub(super) fn awaited_node(&self, hammer: usize) -> String {
        match self.set.scenario.hammers.get(hammer).map(|hammer| (&hammer.work, hammer.device)) {
            Some((Work::Node(node), Some(device))) => {
                format!(
                    ": is there a node {} below device `{}`, and can it be opened?",
                    node.pattern,
                    self.device_name(device)
                )
            }
            Some((Work::Node(node), None)) => format!(": is there a node {}, and can it be opened?", node.pattern),
            _ => String::new(),
        }
    }
}

fn waits_by_choice(task: &StackedTask) -> bool {
    task.state != 'D' && task.stack.iter().any(|frame| OWN_CHOICE.contains(&function(frame)))
}

fn words(end: &ProgramEnd) -> String {
    match end {
        ProgramEnd::Exited(code) => format!("exit {code}"),
        ProgramEnd::Killed(signal) => cut(readable_text(signal), WORD_BYTES),
    }
}

/// What a program wrote. As more sentences of an explanation.
fn wrote(output: &str, output_bytes: u64) -> String {
    if output_bytes == 0 {
        return " It wrote nothing.".into();
    }
    let lines: Vec<&str> = output.lines().collect();
    let shown = lines.get(lines.len().saturating_sub(SHOWN_LINES)..).unwrap_or_default().join("\n");
    let all = if output_bytes > PROGRAM_OUTPUT_BYTES as u64 {
        format!(" the beginning of {output_bytes} bytes")
    } else {
        String::new()
    };
    format!(" It wrote{all}:\n{shown}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_wrote_is_shown_from_its_end() {
        let output: String = (0..100).map(|line| format!("line {line}\n")).collect();
        let all = wrote(&output, output.len() as u64);
        assert!(all.starts_with(" It wrote:\nline 80\n") && all.ends_with("line 99"), "{all}");
        assert!(wrote(&output, 1 << 20).contains("the beginning of 1048576 bytes"));
        assert_eq!(wrote("", 0), " It wrote nothing.");
    }

    #[test]
    fn whoever_sleeps_by_choice_is_not_stuck() {
        let task = |state, frame: &str| StackedTask {
            pid: 7,
            tid: 7,
            comm: "probe".into(),
            state,
            switches: 1,
            stack: vec![frame.to_owned(), "do_syscall_64+0x5f/0x90".to_owned()],
            hammer: None,
            operation: None,
        };
        for frame in
            ["__do_sys_pause+0x10/0x20", "do_nanosleep+0x67/0x190", "do_wait+0x5e/0x130", "do_sys_poll+0x1/0x2"]
        {
            assert!(waits_by_choice(&task('S', frame)), "{frame}");
        }
        assert!(!waits_by_choice(&task('S', "plugstorm_event_wait+0x10/0x20")));
        assert!(!waits_by_choice(&task('D', "do_wait+0x5e/0x130")));
    }

    #[test]
    fn ends_have_words() {
        assert_eq!(words(&ProgramEnd::Exited(3)), "exit 3");
        assert_eq!(words(&ProgramEnd::Killed("SIG\u{1b}[2JSEGV".into())), "SIG[2JSEGV");
    }
}
