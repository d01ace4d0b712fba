//! Where a guest's processors were when the machine looked at them, as a report shows it.

use plugstorm_observe::hang::{Doing, Processor, ProcessorReport, Progress};

use super::stacks::{Stack, frames};
use super::text::one_line;
use crate::results::Finding;
use crate::summary::duration;

/// Processors of which a stack is shown. A guest has 16 at most.
const MOST_PROCESSORS: usize = 16;
/// How the kernel's own reports mark the instruction at which a processor is, and not one that a call returns to: what looks for
/// its line takes heed of that.
const POINTER: &str = "RIP: ";
/// Calls on a virtio port (drivers/char/virtio_console.c): nobody in a guest has one open but plugstorm's agent.
const AT_PORT: [&str; 4] = ["port_fops_write", "port_fops_read", "port_fops_poll", "port_fops_splice_write"];

/// What the looks gave, as a heading: `The vCPUs, looked at twice, 512 ms apart`.
pub(super) fn heading(report: &ProcessorReport) -> String {
    let is_once = report.progress.iter().all(|progress| *progress == Progress::SeenOnce);
    match is_once {
        true => "The vCPUs, seen from outside".to_owned(),
        false => format!("The vCPUs, seen from outside twice, {} apart", duration(report.between_ns)),
    }
}

/// The paragraph, unless the finding's own has it already.
pub(super) fn paragraph(finding: &Finding) -> Option<&str> {
    let report = finding.processors.as_ref()?;
    let said = report.explanation.trim();
    (!said.is_empty() && !finding.explanation.contains(said)).then_some(said)
}

/// The stacks of those that do something.
pub(super) fn stacks(finding: &Finding) -> Vec<Stack> {
    let Some(report) = &finding.processors else { return Vec::new() };
    let progress = report.progress.iter().copied().chain(std::iter::repeat(Progress::SeenOnce));
    let seen = report.processors.iter().take(MOST_PROCESSORS).zip(progress);
    seen.filter(|(processor, _)| {
        !matches!(processor.doing, Doing::Idle | Doing::NotStarted) && !processor.stack.is_empty()
    })
    .map(|(processor, progress)| Stack {
        role: format!("vCPU {}", processor.cpu),
        whose: whose(processor, progress),
        matters: None,
        frames: at(&processor.stack),
    })
    .collect()
}

fn at(stack: &[String]) -> Vec<String> {
    let mut all = frames(stack.iter().map(String::as_str));
    if let Some(first) = all.first_mut().filter(|first| !first.starts_with('?')) {
        first.insert_str(0, POINTER);
    }
    all
}

fn whose(processor: &Processor, progress: Progress) -> String {
    let what = match processor.doing {
        Doing::Idle => "idle",
        Doing::HaltedForGood => "halted with interrupts off",
        Doing::Program => "in a program",
        Doing::Kernel => "in the kernel",
        Doing::KernelInterruptsOff => "in the kernel with interrupts off",
        Doing::NotStarted => "not started",
        _ => "in a state that this plugstorm has no word for",
    };
    let task = match &processor.task {
        Some(task) if task.tid == 0 => ", no task".to_owned(),
        Some(task) => format!(", for {} (thread {})", one_line(&task.comm), task.tid),
        None => String::new(),
    };
    let moved = match progress {
        Progress::SameInstruction => ", at the same instruction both times",
        Progress::SameFunction => ", in the same function both times",
        Progress::SameCaller => ", within the same calls both times",
        Progress::Elsewhere => ", somewhere else the second time",
        _ => "",
    };
    let is_agent = processor.stack.iter().any(|frame| AT_PORT.iter().any(|call| frame.starts_with(call)));
    let agent = if is_agent { ", plugstorm's agent at its port to the host" } else { "" };
    format!("{what}{task}{agent}{moved}")
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn one_that_does_nothing_has_no_stack_to_show() {
        let result = sample::silent();
        let shown: Vec<_> =
            stacks(&result.findings[0]).iter().map(|stack| format!("{}: {}", stack.role, stack.whose)).collect();
        assert_eq!(
            shown,
            ["vCPU 0: in the kernel with interrupts off, for hammer/0 (thread 70), in the same function both times"]
        );
    }

    #[test]
    fn the_place_of_a_processor_is_no_return_address_and_a_guess_is_none() {
        let frames = |stack: &[&str]| at(&stack.iter().map(|&frame| frame.to_owned()).collect::<Vec<_>>());
        assert_eq!(frames(&["f+0x1/0x2", "g+0x1/0x2"]), ["RIP: f+0x1/0x2", "g+0x1/0x2"]);
        assert_eq!(frames(&["? f+0x1/0x2"]), ["? f+0x1/0x2"]);
        assert!(frames(&[]).is_empty());
    }

    #[test]
    fn who_talks_to_the_host_is_no_riddle() {
        let stack = ["iowrite16+0xc/0x50", "port_fops_write+0x1c1/0x210", "vfs_write+0x201/0x950"];
        let stack = stack.iter().map(|&frame| frame.to_owned()).collect();
        let processor = Processor { cpu: 0, doing: Doing::Kernel, task: None, ip: 1, stack };
        assert_eq!(
            whose(&processor, Progress::Elsewhere),
            "in the kernel, plugstorm's agent at its port to the host, somewhere else the second time"
        );
    }

    #[test]
    fn the_paragraph_is_said_once() {
        let mut finding = sample::silent().findings.remove(0);
        assert_eq!(paragraph(&finding), None);
        finding.explanation = "Something else.".into();
        assert!(paragraph(&finding).is_some_and(|said| said.starts_with("vCPU 0 has interrupts off")));
    }
}
