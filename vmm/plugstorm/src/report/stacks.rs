//! Stacks of a finding, each with whose it is: of a hang who waits and who is waited for, of a kernel's report the stacks in it.

use crate::results::{Finding, RunResult};
use crate::summary::duration;

use super::processors;
use super::text::one_line;

/// Threads that are waited for of which a stack is shown; the explanation names all.
const MOST_HOLDERS: usize = 4;
/// Stacks that are taken out of a kernel's report: KASAN has four at most.
const MOST_SECTIONS: usize = 4;
/// Frames of one stack. The kernel's own dumps have at most 64.
const MOST_FRAMES: usize = 64;

/// A line of a stack, with what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The frame, as the kernel prints it: `gpiochip_remove+0x66/0x160`; of an inlined one the function alone.
    pub frame: String,
    /// Where that is: `drivers/gpio/gpiolib.c:1104`.
    pub place: Option<String>,
    /// The compiler put it into the next frame that is not inlined.
    pub inlined: bool,
}

/// Says more of a line of a stack in a run's findings: a line for each function that is at that address, inlined ones first, as
/// a kernel's stack has the innermost first. At least one. The run says which kernel it was.
pub type Annotate<'a> = dyn Fn(&RunResult, &str) -> Vec<Line> + 'a;

/// Says no more than the line itself.
#[must_use]
pub fn plain(_run: &RunResult, line: &str) -> Vec<Line> {
    vec![Line { frame: line.to_owned(), place: None, inlined: false }]
}

/// A stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stack {
    /// What it is to the finding: `waits`, `is waited for`.
    pub(super) role: String,
    /// Whose it is.
    pub(super) whose: String,
    /// The function that matters most of it: the one that waits, or the one in which it is waited for.
    pub(super) matters: Option<String>,
    /// Innermost first.
    pub(super) frames: Vec<String>,
}

impl Stack {
    /// Its frames with what is known of them.
    pub(super) fn lines(&self, run: &RunResult, annotate: &Annotate<'_>) -> Vec<Line> {
        self.frames.iter().flat_map(|frame| annotate(run, frame)).collect()
    }

    /// The first of these lines, which are its own, that is of the function that matters most.
    pub(super) fn matters_at<'a>(&self, lines: &'a [Line]) -> Option<&'a Line> {
        let wanted = bare(self.matters.as_deref()?);
        lines.iter().find(|line| bare(&line.frame) == wanted)
    }

    /// Whose it is, and where: `irq/25-pciehp (thread 38), in gpiochip_remove, drivers/gpio/gpiolib.c:1182`.
    pub(super) fn heading(&self, lines: &[Line]) -> String {
        let at = self.matters_at(lines).map(|line| match &line.place {
            Some(place) => format!(", in {}, {}", bare(&line.frame), one_line(place)),
            None => format!(", in {}", bare(&line.frame)),
        });
        format!("{}{}", self.whose, at.unwrap_or_default())
    }
}

/// The function of a frame, without its underscores: who is told by `linereq_read` may be in `__linereq_read`.
fn bare(frame: &str) -> &str {
    let end = frame.find(['+', ' ', '.']).unwrap_or(frame.len());
    frame.get(..end).unwrap_or(frame).trim_start_matches('_')
}

/// All stacks of a finding that tell where something is, the kernel's report aside: that has its own in it.
pub(super) fn beside_report(finding: &Finding) -> Vec<Stack> {
    let threads = if finding.hang.is_some() || finding.splat.is_none() { of(finding) } else { Vec::new() };
    threads.into_iter().chain(processors::stacks(finding)).collect()
}

pub(super) fn of(finding: &Finding) -> Vec<Stack> {
    match (&finding.hang, &finding.splat) {
        (Some(hang), _) => {
            let waiters = hang.waiters.iter().map(|waiter| Stack {
                role: "waits".into(),
                whose: format!(
                    "{} (thread {}){}",
                    one_line(&waiter.comm),
                    waiter.tid,
                    waiter.waited_ns.map(|ns| format!(", for {} so far", duration(ns))).unwrap_or_default()
                ),
                matters: Some(one_line(&waiter.wait.caller)),
                frames: frames(waiter.stack.iter().map(String::as_str)),
            });
            let holders = hang.waited_for.iter().take(MOST_HOLDERS).map(|holder| {
                let doing = match (&holder.hammer, &holder.operation) {
                    (Some(hammer), Some(operation)) => format!(", hammer {hammer}, in {operation}"),
                    (Some(hammer), None) => format!(", hammer {hammer}"),
                    _ => String::new(),
                };
                Stack {
                    role: "is waited for".into(),
                    whose: one_line(&format!("{} (thread {}){doing}", holder.comm, holder.tid)),
                    matters: Some(one_line(&holder.function)),
                    frames: frames(holder.stack.iter().map(String::as_str)),
                }
            });
            waiters.chain(holders).filter(|stack| !stack.frames.is_empty()).collect()
        }
        (None, Some(splat)) => of_splat(splat),
        (None, None) => Vec::new(),
    }
}

pub(super) fn frames<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    lines.take(MOST_FRAMES).map(one_line).collect()
}

/// The stacks in a kernel's report: what follows `Call Trace:`, and KASAN's histories of the object.
fn of_splat(splat: &str) -> Vec<Stack> {
    let mut stacks: Vec<Stack> = Vec::new();
    let mut whose = String::new();
    let mut open = false;
    for line in splat.lines() {
        let text = line.trim();
        if let Some(task) = text.strip_prefix("CPU: ").and_then(|rest| rest.split_once("Comm: ")) {
            // `CPU: 1 UID: 0 PID: 35 Comm: kworker/u10:1 Tainted: …` (dump_stack_print_info() in lib/dump_stack.c).
            let name = task.1.split(" Tainted: ").next().unwrap_or_default();
            whose = one_line(name.split(" Not tainted ").next().unwrap_or_default());
        }
        if let Some((role, of)) = heading(text) {
            open = stacks.len() < MOST_SECTIONS;
            if open {
                let whose = of.map_or_else(|| whose.clone(), one_line);
                stacks.push(Stack { role: role.into(), whose, matters: None, frames: Vec::new() });
            }
        } else if open && let Some(stack) = stacks.last_mut() {
            match frame(text) {
                Part::Frame(frame) if stack.frames.len() < MOST_FRAMES => stack.frames.push(one_line(frame)),
                Part::Frame(_) | Part::Nothing => {}
                Part::End => open = false,
            }
        }
    }
    stacks.retain(|stack| !stack.frames.is_empty());
    stacks
}

/// What a stack is to the report, and whose it is where the line says so.
fn heading(line: &str) -> Option<(&'static str, Option<&str>)> {
    let after = |words: &str| line.strip_prefix(words).and_then(|rest| rest.strip_suffix(':'));
    if line == "Call Trace:" {
        return Some(("ran", None));
    }
    // print_stack() of mm/kasan/report.c.
    let histories = [
        ("Allocated by ", "allocated it"),
        ("Freed by ", "freed it"),
        ("Last potentially related work creation", "queued work for it"),
        ("Second to last potentially related work creation", "queued work for it before"),
    ];
    histories.into_iter().find_map(|(words, role)| after(words).map(|of| (role, Some(of))))
}

enum Part<'a> {
    Frame(&'a str),
    Nothing,
    End,
}

/// A line below a heading. `?` marks what was on the stack and need not have been called.
fn frame(line: &str) -> Part<'_> {
    let is_frame = || {
        let (function, offsets) = line.split_once('+')?;
        let offsets = offsets.split(' ').next()?;
        let (offset, size) = offsets.split_once('/')?;
        let hex = |text: &str| text.starts_with("0x");
        (!function.is_empty() && !function.contains(' ') && hex(offset) && hex(size)).then_some(())
    };
    match line {
        "" | "</TASK>" | "</IRQ>" => Part::End,
        _ if line.starts_with('<') || line.starts_with("? ") => Part::Nothing,
        _ if is_frame().is_some() => Part::Frame(line),
        // Registers of a call from user space stand between a trace's frames and its end.
        _ => Part::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_hang_has_who_waits_and_who_is_waited_for() {
        let result = sample::hang_and_splat();
        let stacks = of(&result.findings[0]);
        let told: Vec<_> = stacks.iter().map(|stack| (stack.role.as_str(), stack.whose.as_str())).collect();
        assert_eq!(
            told,
            [
                ("waits", "irq/25-pciehp (thread 38), for 12.4 s so far"),
                ("is waited for", "reader/0 (thread 51), hammer reader, in read-event")
            ]
        );
    }

    #[test]
    fn the_frame_that_matters_is_found_among_inlined_ones() {
        let result = sample::hang_and_splat();
        let stacks = of(&result.findings[0]);
        let headings: Vec<_> = stacks.iter().map(|stack| stack.heading(&stack.lines(&result, &plain))).collect();
        assert_eq!(
            headings,
            [
                "irq/25-pciehp (thread 38), for 12.4 s so far, in stack_token_revoke",
                "reader/0 (thread 51), hammer reader, in read-event, in plugstorm_event_wait"
            ]
        );
        let annotate = |_: &RunResult, frame: &str| {
            let inlined = Line { frame: "stack_token_revoke".into(), place: Some("s.h:7".into()), inlined: true };
            vec![inlined, Line { frame: frame.into(), place: Some("s.c:9".into()), inlined: false }]
        };
        let lines = stacks[0].lines(&result, &annotate);
        assert!(stacks[0].heading(&lines).ends_with(", in stack_token_revoke, s.h:7"));
        assert_eq!(bare("__linereq_read.isra.0+0x1/0x2 [m]"), "linereq_read");
    }

    #[test]
    fn a_report_of_kasan_has_three() {
        let result = sample::hang_and_splat();
        let stacks = of(&result.findings[1]);
        let told: Vec<_> =
            stacks.iter().map(|stack| format!("{} {} {}", stack.role, stack.whose, stack.frames.join(" "))).collect();
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn a_report_may_be_anything() {
        for text in ["", "Call Trace:", "Call Trace:\n+\n+0x\n a+0x1/0x2", "Allocated by :\n\n", "Freed by task 1:"] {
            assert!(of_splat(text).len() <= 1, "{text}");
        }
        let endless = format!("Call Trace:\n{}", " a+0x1/0x2\n".repeat(1000));
        assert_eq!(of_splat(&endless)[0].frames.len(), MOST_FRAMES);
        assert!(of_splat(&"Call Trace:\n a+0x1/0x2\n\n".repeat(50)).len() == MOST_SECTIONS);
    }
}
