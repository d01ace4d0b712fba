//! Where a guest's processors are, seen from outside at two looks, and what that says.

use serde::{Deserialize, Serialize};

use crate::symbol::Symbol;

/// Processors named one by one in the paragraph.
const MOST_NAMED: usize = 4;

/// What a processor does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Doing {
    /// It waits for an interrupt, which it would take.
    Idle,
    /// It waits for an interrupt with interrupts off: only a non-maskable one wakes it.
    HaltedForGood,
    /// It executes a program.
    Program,
    /// It executes the kernel, and takes interrupts.
    Kernel,
    /// It executes the kernel with interrupts off.
    KernelInterruptsOff,
    /// Nobody has started it.
    NotStarted,
}

/// What a processor did between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Progress {
    /// It was at the same instruction of the same calls.
    SameInstruction,
    /// It was in the same function, called by the same ones.
    SameFunction,
    /// Its innermost function was another one, called from the same place further out.
    SameCaller,
    /// It was somewhere else.
    Elsewhere,
    /// There was one look only.
    SeenOnce,
}

/// The task that a processor executes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executed {
    /// Thread; 0 when there is nothing to do.
    pub tid: u32,
    /// Name.
    pub comm: String,
}

/// A processor at one look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Processor {
    /// Its number.
    pub cpu: u32,
    /// What it does.
    pub doing: Doing,
    /// The task that it executes, where the kernel tells.
    pub task: Option<Executed>,
    /// Its instruction pointer.
    pub ip: u64,
    /// Its stack, innermost first, such as `delay_tsc+0x2f/0x70`; `? ` before a guess. Empty in a program, and where the kernel's
    /// symbols were not found.
    pub stack: Vec<String>,
}

/// What two looks at all processors of a guest gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessorReport {
    /// In one paragraph, for people.
    pub explanation: String,
    /// At the first look, in the order of their numbers.
    pub processors: Vec<Processor>,
    /// What each did until the second one.
    pub progress: Vec<Progress>,
    /// Timer ticks that the kernel counted in between; none where that is not known.
    pub ticks: Option<u64>,
    /// Between the looks, in nanoseconds.
    pub between_ns: u64,
}

impl ProcessorReport {
    /// Puts two looks together. `second` may be empty.
    #[must_use]
    pub fn new(first: Vec<Processor>, second: &[Processor], ticks: Option<u64>, between_ns: u64) -> Self {
        let progress = first
            .iter()
            .map(|before| {
                let after = second.iter().find(|after| after.cpu == before.cpu);
                after.map_or(Progress::SeenOnce, |after| progress(before, after))
            })
            .collect();
        let mut report = Self { explanation: String::new(), processors: first, progress, ticks, between_ns };
        report.explanation = report.paragraph();
        report
    }

    /// The places that say most, for a sentence: functions of the kernel that are no idle loop.
    #[must_use]
    pub fn busy(&self) -> Vec<String> {
        let busy = self.processors.iter().filter(|processor| {
            matches!(processor.doing, Doing::Kernel | Doing::KernelInterruptsOff | Doing::HaltedForGood)
        });
        busy.filter_map(|processor| functions(processor).next()).collect()
    }

    fn paragraph(&self) -> String {
        let mut sentences = Vec::new();
        let idle = self.numbers(Doing::Idle);
        let others: Vec<_> = (self.processors.iter().zip(&self.progress))
            .filter(|(processor, _)| !matches!(processor.doing, Doing::Idle | Doing::NotStarted))
            .collect();
        for (processor, progress) in others.iter().take(MOST_NAMED) {
            sentences.push(sentence(processor, **progress));
        }
        if others.len() > MOST_NAMED {
            sentences.push(format!("{} more are at work.", others.len() - MOST_NAMED));
        }
        match idle.len() {
            0 => {}
            n if n == self.processors.len() => {
                sentences.push("All vCPUs are idle: nothing runs, and whoever does not go on sleeps.".to_owned());
            }
            1 => sentences.push(format!("vCPU {} is idle.", idle.concat())),
            _ => sentences.push(format!("vCPUs {} are idle.", idle.join(", "))),
        }
        match self.ticks {
            Some(0) => sentences.push("The kernel counted no timer tick between the two looks.".to_owned()),
            Some(ticks) => sentences.push(format!("The kernel counted {ticks} timer ticks between the two looks.")),
            None => {}
        }
        sentences.join(" ")
    }

    fn numbers(&self, doing: Doing) -> Vec<String> {
        let such = self.processors.iter().filter(|processor| processor.doing == doing);
        such.map(|processor| processor.cpu.to_string()).collect()
    }
}

/// The functions that are known for sure, innermost first.
fn functions(processor: &Processor) -> impl Iterator<Item = String> {
    let sure = processor.stack.iter().filter(|frame| !frame.starts_with('?'));
    sure.filter_map(|frame| Symbol::parse(frame)).map(|symbol| symbol.to_string())
}

fn progress(before: &Processor, after: &Processor) -> Progress {
    let (first, second): (Vec<_>, Vec<_>) = (functions(before).collect(), functions(after).collect());
    if before.doing != after.doing || before.task != after.task {
        return Progress::Elsewhere;
    }
    if before.ip == after.ip && before.stack == after.stack {
        return Progress::SameInstruction;
    }
    if first.is_empty() || second.is_empty() {
        return Progress::Elsewhere;
    }
    if first == second {
        return Progress::SameFunction;
    }
    // The outer half of the calls and more: what it is in is called again and again.
    let common = first.iter().rev().zip(second.iter().rev()).take_while(|(one, other)| one == other).count();
    if common * 2 >= first.len().max(second.len()) { Progress::SameCaller } else { Progress::Elsewhere }
}

fn sentence(processor: &Processor, progress: Progress) -> String {
    let cpu = processor.cpu;
    let task = match &processor.task {
        Some(task) => format!(" for the task {} ({})", task.comm, task.tid),
        None => String::new(),
    };
    let mut functions = functions(processor);
    let place = match (functions.next(), functions.next()) {
        (Some(function), Some(caller)) => format!("{function}, called by {caller}"),
        (Some(function), None) => function,
        _ => format!("an unknown place ({:#x})", processor.ip),
    };
    let what = match processor.doing {
        Doing::Program => return format!("vCPU {cpu} executes a program{task}{}.", moved(progress, false)),
        Doing::HaltedForGood => {
            return format!(
                "vCPU {cpu} has stopped with interrupts off{task}, in {place}: nothing but a non-maskable interrupt wakes it."
            );
        }
        Doing::KernelInterruptsOff => "has interrupts off and is in",
        _ => "is in",
    };
    format!("vCPU {cpu} {what} {place}{task}{}.", moved(progress, true))
}

fn moved(progress: Progress, in_kernel: bool) -> &'static str {
    match progress {
        Progress::SameInstruction => ", at the same instruction at both looks",
        Progress::SameFunction => ", in the same function at both looks",
        Progress::SameCaller => ", within the same calls at both looks",
        Progress::Elsewhere if in_kernel => "; it was somewhere else at the second look",
        Progress::Elsewhere | Progress::SeenOnce => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn processor(cpu: u32, doing: Doing, stack: &[&str]) -> Processor {
        Processor {
            cpu,
            doing,
            task: Some(Executed { tid: 70 + cpu, comm: "hammer".into() }),
            ip: 0xffff_ffff_8123_4567,
            stack: stack.iter().map(|&frame| frame.to_owned()).collect(),
        }
    }

    const SPINS: [&str; 4] = [
        "delay_tsc+0x2f/0x70",
        "plugstorm_point_hit+0x9c/0xf0 [plugstorm]",
        "plugstorm_event_done+0x40/0x110 [plugstorm]",
        "vring_interrupt+0x5a/0x90",
    ];

    #[test]
    fn a_processor_that_spins_with_interrupts_off_is_told_from_one_that_is_idle() {
        let first = vec![processor(0, Doing::KernelInterruptsOff, &SPINS), processor(1, Doing::Idle, &["x+0x1/0x2"])];
        let mut second = first.clone();
        second[0].ip += 4;
        second[0].stack[0] = "delay_tsc+0x33/0x70".into();
        let report = ProcessorReport::new(first, &second, Some(0), 1_000_000);
        assert_eq!(
            report.explanation,
            "vCPU 0 has interrupts off and is in delay_tsc, called by plugstorm_point_hit [plugstorm] for the task hammer (70), \
             in the same function at both looks. vCPU 1 is idle. The kernel counted no timer tick between the two looks."
        );
        assert_eq!(report.busy(), ["delay_tsc"]);
        assert_eq!(report.progress, [Progress::SameFunction, Progress::SameInstruction]);
    }

    #[test]
    fn what_moves_is_told_from_what_stands_still() {
        let before = processor(0, Doing::Kernel, &SPINS);
        let mut after = before.clone();
        assert_eq!(progress(&before, &after), Progress::SameInstruction);
        after.stack.insert(0, "read_tsc+0x1/0x20".into());
        assert_eq!(progress(&before, &after), Progress::SameCaller);
        after.stack = vec!["vfs_read+0x1/0x2".into()];
        assert_eq!(progress(&before, &after), Progress::Elsewhere);
        after.stack = before.stack.clone();
        after.task = None;
        assert_eq!(progress(&before, &after), Progress::Elsewhere);
    }

    #[test]
    fn a_guess_is_no_place() {
        let report = ProcessorReport::new(
            vec![processor(0, Doing::HaltedForGood, &["? guessed+0x1/0x2", "panic+0x1/0x2"])],
            &[],
            None,
            0,
        );
        assert!(report.explanation.contains(", in panic: nothing but"), "{}", report.explanation);
        assert_eq!(report.progress, [Progress::SeenOnce]);
    }

    #[test]
    fn without_symbols_there_is_the_address() {
        let report = ProcessorReport::new(vec![processor(0, Doing::Kernel, &[])], &[], None, 0);
        assert!(report.explanation.contains("an unknown place (0xffffffff81234567)"), "{}", report.explanation);
    }
}
