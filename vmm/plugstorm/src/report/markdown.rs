//! Plain text for a mail: 72 columns, but for stacks and command lines, which are as they are. Markdown where that is as
//! readable as it stands.

use std::fmt::Write as _;

use super::stacks::{self, Annotate, Stack};
use super::text::{one_line, rates, visible};
use super::{Distinct, Report, command, evidence, locks, processors};
use crate::calendar::minute;
use crate::results::{Finding, RunResult};
use crate::summary::{count, wrapped};

/// What mails to kernel lists are wrapped at.
const WIDTH: usize = 72;
/// Four spaces: verbatim to Markdown.
const MARGIN: &str = "    ";
/// Frames of a stack.
const MOST_FRAMES: usize = 24;
/// Lines of a kernel's report. The whole is in the result.
const MOST_SPLAT_LINES: usize = 120;
/// Findings that are told in full; of the others the title.
const MOST_TOLD: usize = 20;

pub(super) fn render(report: &Report, annotate: &Annotate<'_>) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_report(&mut text, report, annotate);
    text
}

fn write_report(text: &mut String, report: &Report, annotate: &Annotate<'_>) -> std::fmt::Result {
    paragraph(text, "", &format!("{}: {}", report.overall().word(), report.headline()))?;
    text.push('\n');
    if let Some(run) = report.runs.first() {
        write_facts(text, report, &run.result)?;
    }
    write_evidence(text, report)?;
    for (number, found) in (1..).zip(&report.findings) {
        match number <= MOST_TOLD {
            true => write_finding(text, report, found, number, annotate)?,
            false => paragraph(text, "- ", &one_line(&found.title))?,
        }
    }
    if !report.known.is_empty() {
        text.push_str("\nKnown findings\n--------------\n\n");
        report.known.iter().try_for_each(|account| paragraph(text, "- ", &one_line(account)))?;
    }
    let warnings = report.runs.iter().flat_map(|run| &run.result.warnings);
    let mut notes: Vec<&String> = report.unread.iter().chain(warnings).collect();
    notes.sort_unstable();
    notes.dedup();
    if !notes.is_empty() {
        text.push_str("\nNotes\n-----\n\n");
        notes.iter().try_for_each(|note| paragraph(text, "- ", &one_line(note)))?;
    }
    Ok(())
}

fn write_facts(text: &mut String, report: &Report, first: &RunResult) -> std::fmt::Result {
    let guest = &first.guest;
    let one = report.runs.len() == 1;
    let mut facts = Vec::new();
    if one {
        facts.push(("scenario", format!("{}: {}", first.scenario, first.about)));
        facts.push((
            "cycles",
            format!("{} of {} completed, seed {}", first.cycles.completed, first.cycles.asked, first.seed),
        ));
    } else {
        for setting in &report.settings {
            let verdicts =
                format!("{} found, {} clean, {} without a verdict", setting.found, setting.clean, setting.inconclusive);
            facts.push(("runs", format!("{} on {}: {verdicts}", setting.name(), setting.kernel)));
        }
    }
    let mut words = format!("{} ({})", guest.release.as_deref().unwrap_or("release unknown"), guest.kernel);
    if let Some(hz) = guest.hz {
        write!(words, ", HZ {hz}")?;
    }
    if let Some(model) = &guest.preemption {
        write!(words, ", preemption {model}")?;
    }
    write!(words, ", {} CPUs, {} MiB", guest.cpus, guest.memory_bytes >> 20)?;
    facts.push(("kernel", words));
    facts.push(("host", first.host.kind.describe().to_owned()));
    facts.push(("begun", minute(first.started_unix_s)));
    facts.push(("plugstorm", first.plugstorm.clone()));
    for (name, value) in facts {
        paragraph(text, &format!("{name:<11}"), &one_line(&value))?;
    }
    Ok(())
}

fn write_evidence(text: &mut String, report: &Report) -> std::fmt::Result {
    let evidence = evidence::of(&report.runs, &report.settings);
    let many = report.settings.len() > 1;
    let of = |setting: &str| if many { format!(", {}", one_line(setting)) } else { String::new() };
    if !evidence.removals.is_empty() || !evidence.calls.is_empty() {
        text.push('\n');
    }
    for removals in &evidence.removals {
        let (asked, seen, finished, stuck) = (removals.asked, removals.seen, removals.finished, removals.stuck);
        let words = format!(
            "removals ({}{}): {asked} asked, {seen} seen, {finished} finished, {stuck} stuck",
            removals.how,
            of(&removals.setting)
        );
        paragraph(text, "- ", &words)?;
    }
    for calls in &evidence.calls {
        let rate = calls.per_second().map(|rate| format!(" ({rate:.0}/s)")).unwrap_or_default();
        let failed: Vec<String> = calls.failed.iter().map(|(name, count)| format!(", {name} {count}")).collect();
        let words = format!(
            "hammer {}{}: {} {}{rate}, {} ok{}",
            one_line(&calls.hammer),
            of(&calls.setting),
            count(calls.calls, "call"),
            calls.operation,
            calls.succeeded,
            failed.concat()
        );
        paragraph(text, "- ", &words)?;
    }
    Ok(())
}

fn write_finding(
    text: &mut String,
    report: &Report,
    found: &Distinct,
    number: usize,
    annotate: &Annotate<'_>,
) -> std::fmt::Result {
    let Some((run, first)) = found.first(&report.runs) else { return Ok(()) };
    let title = format!("Finding {number}: {}", one_line(&found.title));
    let lines: Vec<String> = wrapped(&inert(&title), WIDTH).iter().map(|line| inert_line(line)).collect();
    let longest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    write!(text, "\n{}\n{}\n\n", lines.join("\n"), "-".repeat(longest.min(WIDTH)))?;
    for title in &found.alt_titles {
        paragraph(text, "also: ", &one_line(title))?;
    }
    for rate in rates(report, found) {
        paragraph(text, "", &format!("{}, {}", found.kind.name(), one_line(&rate)))?;
    }
    if let Some(why) = &found.known {
        paragraph(text, "", &format!("known: {}", one_line(why)))?;
    }
    for line in first.explanation.lines() {
        text.push('\n');
        paragraph(text, "", &one_line(line))?;
    }
    // What a kernel reported has its stacks in it; of a hang there are those of threads.
    if first.hang.is_some() || first.splat.is_none() {
        stacks::of(first).iter().try_for_each(|stack| write_stack(text, &run.result, stack, annotate))?;
    }
    for domain in first.hang.iter().flat_map(|hang| &hang.unbalanced) {
        let [one, other] = domain.inside();
        text.push('\n');
        paragraph(text, "", &format!("readers inside {} by its counters: {one} and {other}", one_line(&domain.name)))?;
    }
    write_locks(text, first)?;
    if let Some(report) = &first.processors {
        let paragraph_of = processors::paragraph(first).map(one_line);
        let stacks = processors::stacks(first);
        if paragraph_of.is_some() || !stacks.is_empty() {
            let words = paragraph_of.map(|words| format!(" {words}")).unwrap_or_default();
            text.push('\n');
            paragraph(text, "", &format!("{}:{words}", processors::heading(report)))?;
        }
        stacks.iter().try_for_each(|stack| write_stack(text, &run.result, stack, annotate))?;
    }
    let reported = first.splat.as_deref().map(reliable);
    let (what, lines) = match &reported {
        Some(lines) => ("The kernel's report, without the frames that it marks with `?`:", lines.clone()),
        None => ("The console's last lines:", first.console.iter().map(String::as_str).collect()),
    };
    if !lines.is_empty() {
        write!(text, "\n{what}\n\n")?;
        for line in lines.iter().take(MOST_SPLAT_LINES) {
            writeln!(text, "{}", format!("{MARGIN}{}", visible(line)).trim_end())?;
        }
        if lines.len() > MOST_SPLAT_LINES {
            writeln!(text, "{MARGIN}… {}", count((lines.len() - MOST_SPLAT_LINES) as u64, "more line"))?;
        }
    }
    write!(text, "\nAgain:\n\n{MARGIN}{}\n", one_line(&command(&run.result)))
}

fn write_locks(text: &mut String, finding: &Finding) -> std::fmt::Result {
    let held = locks::of(finding);
    if held.is_empty() {
        return Ok(());
    }
    text.push_str("\nLocks that these threads hold or wait for, as lockdep listed them:\n\n");
    for held in held {
        let also =
            if held.also.is_empty() { String::new() } else { format!(", also listed for {}", held.also.join(", ")) };
        let words = format!("{}: {} at {}, taken in {}{also}", held.whose, held.lock, held.instance, held.taken_in);
        paragraph(text, "- ", &words)?;
    }
    Ok(())
}

/// The lines of a report that say something: a frame with a `?` was on the stack, and need not have been called.
fn reliable(splat: &str) -> Vec<&str> {
    splat.lines().filter(|line| !line.trim_start().starts_with("? ")).collect()
}

fn write_stack(text: &mut String, result: &RunResult, stack: &Stack, annotate: &Annotate<'_>) -> std::fmt::Result {
    text.push('\n');
    let lines = stack.lines(result, annotate);
    paragraph(text, "", &format!("{}: {}", stack.role, stack.heading(&lines)))?;
    text.push('\n');
    for frame in stack.frames.iter().take(MOST_FRAMES) {
        for line in annotate(result, frame) {
            let place = line.place.map(|place| format!("  {}", one_line(&place))).unwrap_or_default();
            let inlined = if line.inlined { " (inlined)" } else { "" };
            writeln!(text, "{MARGIN}{}{inlined}{place}", one_line(&line.frame))?;
        }
    }
    if stack.frames.len() > MOST_FRAMES {
        writeln!(text, "{MARGIN}… {} more", stack.frames.len() - MOST_FRAMES)?;
    }
    Ok(())
}

/// Breaks a text between words, with `mark` before the first line and as much room before the others.
fn paragraph(text: &mut String, mark: &str, words: &str) -> std::fmt::Result {
    let margin = mark.chars().count();
    for (at, line) in wrapped(&inert(words), WIDTH - margin).iter().enumerate() {
        let line = inert_line(line);
        match at {
            0 => writeln!(text, "{mark}{line}")?,
            _ => writeln!(text, "{:margin$}{line}", "")?,
        }
    }
    Ok(())
}

/// Words that are text to Markdown, whatever a guest put into them: no picture, no link, no HTML. Nothing more is marked, since mails
/// are read as they are: a `_` inside a word is one to Markdown too.
fn inert(words: &str) -> String {
    let mut text = String::with_capacity(words.len());
    let mut before = None;
    let mut letters = words.chars().peekable();
    while let Some(letter) = letters.next() {
        let opens = |next: &char| next.is_ascii_alphanumeric() || matches!(next, '/' | '!' | '?');
        let is_markup = match letter {
            '<' => letters.peek().is_some_and(opens),
            '[' => matches!(before, Some('!' | ']')),
            '(' => before == Some(']'),
            _ => false,
        };
        if is_markup {
            text.push('\\');
        }
        text.push(letter);
        before = Some(letter);
    }
    text
}

/// A line that begins nothing: no fence, heading, list, table or rule.
fn inert_line(line: &str) -> String {
    const BEGINNINGS: [&str; 11] = ["```", "~~~", "#", ">", "|", "=", "---", "***", "- ", "+ ", "* "];
    let digits = line.chars().take_while(char::is_ascii_digit).count();
    let (number, rest) = line.split_at(digits);
    let is_numbered = !number.is_empty() && (rest.starts_with(". ") || rest.starts_with(") "));
    // `[name]: place` says where a link leads.
    let is_reference = rest.starts_with('[') && rest.contains("]:");
    match is_numbered || is_reference || (number.is_empty() && BEGINNINGS.iter().any(|begin| rest.starts_with(begin))) {
        true => format!("{number}\\{rest}"),
        false => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::stacks::Line;
    use super::super::{plain, sample};
    use super::*;

    #[test]
    fn of_one_run() {
        let [one, _] = sample::reports();
        insta::assert_snapshot!(render(&one, &plain));
    }

    #[test]
    fn of_many_runs() {
        let [_, many] = sample::reports();
        insta::assert_snapshot!(render(&many, &plain));
    }

    #[test]
    fn what_a_guest_says_is_text() {
        for (said, text) in [
            ("![x](https://a/b.png) [y](z)", "!\\[x]\\(https://a/b.png) [y]\\(z)"),
            ("<img src=x> a < b <irq>", "\\<img src=x> a < b \\<irq>"),
            ("``` begins", "\\``` begins"),
            ("# no heading", "\\# no heading"),
            ("1. no item", "1\\. no item"),
            ("- no item", "\\- no item"),
            ("gpiochip_remove+0x66/0x160 -1", "gpiochip_remove+0x66/0x160 -1"),
            ("in `vp_reset` [plugstorm]", "in `vp_reset` [plugstorm]"),
            ("--- a rule", "\\--- a rule"),
            ("[plugstorm] for", "[plugstorm] for"),
            ("[x]: https://a/b", "\\[x]: https://a/b"),
        ] {
            assert_eq!(inert_line(&inert(said)), text);
        }
    }

    #[test]
    fn of_a_guest_that_answers_nothing() {
        let text = render(&sample::report([sample::silent()]), &plain);
        insta::assert_snapshot!(text.split_once("\nFinding 1: ").unwrap().1);
    }

    #[test]
    fn places_stand_behind_frames() {
        let annotate = |_: &RunResult, frame: &str| {
            let inlined = Line { frame: "wait".into(), place: Some("a.h:7".into()), inlined: true };
            vec![inlined, Line { frame: frame.into(), place: Some("a.c:9".into()), inlined: false }]
        };
        let [one, _] = sample::reports();
        let text = render(&one, &annotate);
        assert!(text.contains("\n    wait (inlined)  a.h:7\n    vfs_read+0x191/0x500  a.c:9\n"), "{text}");
    }

    proptest! {
        #[test]
        fn lines_are_short_and_nothing_hidden_is_in_them(said in "[\\x00-\\x7f\u{9b}\u{202e}é ]{0,40}") {
            let text = render(&sample::report([sample::hostile(&said), sample::clean()]), &plain);
            for line in text.lines() {
                // A word may be longer than a line, and a guest's is.
                let is_breakable = line.split_whitespace().all(|word| word.chars().count() < 30);
                let width = line.chars().count() - line.matches('\\').count();
                prop_assert!(line.starts_with(MARGIN) || !is_breakable || width <= WIDTH, "{}", line);
                let is_hidden = |c: char| (c.is_control() && c != '\t') || c == '\u{202e}';
                let hides = line.contains(is_hidden);
                prop_assert!(!hides, "{}", line);
            }
        }
    }
}
