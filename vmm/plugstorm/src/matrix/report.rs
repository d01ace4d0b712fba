//! A matrix for people: on a terminal, and as Markdown that can be mailed to a list as it is.

use std::fmt::Write as _;

use super::glance;
use super::model::{Cell, Matrix, State, Tally};
use super::outcome::{Came, Ground};
use super::table::{self, Style};
use super::waits::Waits;
use crate::results::FindingKind;
use crate::scenario::Design;
use crate::summary::wrapped;

/// What a mail to a list should not be wider than.
pub const MAIL_WIDTH: usize = 78;
/// Labels of the header.
const LABEL: usize = 12;

const LEGEND: &str = "passed: nothing was found and the evidence is complete, k of n runs; found: a splat or another finding; \
    hung: a removal that never ends; inconclusive: a run that proves nothing; to do: a run that has not ended; cycle: the one, \
    counted from 1, by which half of the runs had found something, and the earliest and latest in which one did (a run that \
    passed counts as later than all its cycles: >N if more than half of them passed); rate: the 95 % interval (Wilson) of the \
    rate at which a run finds something or hangs.";

/// As Markdown, no line wider than [`MAIL_WIDTH`] unless a word or a column is.
#[must_use]
pub fn markdown(matrix: &Matrix) -> String {
    let mut text = format!("# plugstorm matrix, {}\n\n", state(matrix));
    for (label, value) in header(matrix) {
        let lines = wrapped(&value, MAIL_WIDTH - 4 - LABEL);
        for (at, line) in lines.iter().enumerate() {
            let label = if at == 0 { label } else { "" };
            // Four spaces: verbatim to Markdown, and a margin in a mail.
            let _ = writeln!(text, "    {label:LABEL$}{line}");
        }
    }
    text.push('\n');
    let glance = glance::render(matrix, MAIL_WIDTH);
    if !glance.is_empty() {
        let _ = write!(text, "```\n{glance}```\n\n");
    }
    text.push_str(&table::render(matrix, MAIL_WIDTH, Style::Markdown));
    text.push('\n');
    paragraph(&mut text, "", LEGEND, MAIL_WIDTH);
    for (title, cells) in sections(matrix) {
        let _ = write!(text, "\n## {title}\n");
        for cell in cells {
            let mut details = details(matrix, cell).into_iter();
            text.push('\n');
            paragraph(&mut text, "- ", &details.next().unwrap_or_default(), MAIL_WIDTH);
            for detail in details {
                paragraph(&mut text, "  - ", &detail, MAIL_WIDTH);
            }
        }
    }
    let waits = waits(matrix);
    if !waits.is_empty() {
        text.push_str("\n## Grace periods that our module waited for\n\n");
    }
    for words in waits {
        paragraph(&mut text, "- ", &words, MAIL_WIDTH);
    }
    plain(&text)
}

/// For a terminal that has room for so many columns of text.
#[must_use]
pub fn terminal(matrix: &Matrix, width: usize) -> String {
    let width = width.max(40);
    let mut text = String::from("\n");
    let glance = glance::render(matrix, width);
    if !glance.is_empty() {
        let _ = writeln!(text, "{glance}");
    }
    text.push_str(&table::render(matrix, width, Style::Plain));
    text.push('\n');
    for (label, value) in header(matrix).into_iter().filter(|(label, _)| !["command", "scenarios"].contains(label)) {
        for (at, line) in wrapped(&value, width.saturating_sub(LABEL)).iter().enumerate() {
            let label = if at == 0 { label } else { "" };
            let _ = writeln!(text, "{label:LABEL$}{line}");
        }
    }
    text.push('\n');
    paragraph(&mut text, "", LEGEND, width);
    for (title, cells) in sections(matrix) {
        let _ = write!(text, "\n{title}\n");
        for cell in cells {
            let mut details = details(matrix, cell).into_iter();
            paragraph(&mut text, "  ", &details.next().unwrap_or_default(), width);
            for detail in details {
                paragraph(&mut text, "    ", &detail, width);
            }
        }
    }
    let waits = waits(matrix);
    if !waits.is_empty() {
        text.push_str("\nGrace periods that our module waited for\n");
    }
    for words in waits {
        paragraph(&mut text, "  ", &words, width);
    }
    plain(&text)
}

/// By design, in the order of the columns.
fn waits(matrix: &Matrix) -> Vec<String> {
    let of = |design: &Design| matrix.waits.iter().find(|waits| waits.design == *design).and_then(Waits::words);
    matrix.header.designs.iter().filter_map(of).collect()
}

/// One line on a cell whose runs have ended.
#[must_use]
pub fn cell_line(cell: &Cell) -> String {
    let tally = cell.tally();
    let mut line = format!("{}, {}: {}", cell.scenario, cell.design.name(), counts(cell, &tally));
    if let Some(first) = tally.titles.first() {
        let _ = write!(line, ": {}", first.title);
    } else if let Some(reason) = inconclusive(cell).next() {
        let _ = write!(line, ": {reason}");
    }
    plain(&line)
}

/// How far it has come, in words.
#[must_use]
pub fn state(matrix: &Matrix) -> String {
    let (done, all) = matrix.progress();
    match matrix.state {
        State::Complete => format!("complete: {all} runs"),
        State::Running => format!("under way: {done} of {all} runs"),
        State::Stopped => format!("not complete: {done} of {all} runs"),
    }
}

fn header(matrix: &Matrix) -> Vec<(&'static str, String)> {
    let of = &matrix.header;
    let mut lines = vec![("plugstorm", of.plugstorm.clone()), ("command", of.command.join(" "))];
    let grounds: Vec<String> = matrix.grounds.iter().map(ground).collect();
    if grounds.is_empty() {
        let mut kernels: Vec<&str> = of.scenarios.iter().map(|row| row.kernel.as_str()).collect();
        kernels.sort_unstable();
        kernels.dedup();
        lines.push(("kernel", format!("{} (no guest has spoken yet)", kernels.join(", "))));
    }
    lines.extend(grounds.into_iter().map(|ground| ("guest", ground)));
    let mut hosts: Vec<&str> = matrix.grounds.iter().map(|ground| ground.host.as_str()).collect();
    hosts.sort_unstable();
    hosts.dedup();
    lines.extend(hosts.into_iter().map(|host| ("host", host.to_owned())));
    let rows: Vec<String> = of.scenarios.iter().map(|row| format!("{} ({} cycles)", row.name, row.cycles)).collect();
    lines.push(("scenarios", rows.join(", ")));
    let seeds = "one for each run, from scenario, design and number of the run: below, and all of them in matrix.json";
    lines.push(("runs", format!("{} a cell; each ends with its first finding", of.runs)));
    lines.push(("seeds", seeds.into()));
    lines
}

fn ground(ground: &Ground) -> String {
    let mut text = format!("{} ({})", ground.release.as_deref().unwrap_or("release unknown"), ground.kernel);
    if let Some(hz) = ground.hz {
        let _ = write!(text, ", HZ {hz}");
    }
    if let Some(model) = &ground.preemption {
        let _ = write!(text, ", preemption {model}");
    }
    let _ = write!(text, ", {} CPUs, {} MiB", ground.cpus, ground.memory_bytes >> 20);
    text
}

/// The cells in groups: those that say most first.
fn sections(matrix: &Matrix) -> Vec<(&'static str, Vec<&Cell>)> {
    let is = |wanted: fn(&Cell, &Tally) -> bool| -> Vec<&Cell> {
        matrix.cells.iter().filter(|cell| wanted(cell, &cell.tally())).collect()
    };
    let sections = [
        ("Found or hung", is(|_, tally| tally.caught() > 0)),
        ("Inconclusive", is(|_, tally| tally.caught() == 0 && tally.inconclusive > 0)),
        ("Not applicable", is(|cell, _| cell.not_applicable.is_some())),
    ];
    sections.into_iter().filter(|(_, cells)| !cells.is_empty()).collect()
}

/// A cell in words: the first is its headline.
fn details(matrix: &Matrix, cell: &Cell) -> Vec<String> {
    let tally = cell.tally();
    let place = format!("{}, {}", cell.scenario, cell.design.name());
    if let Some(why) = &cell.not_applicable {
        return vec![format!("{place}: {why}")];
    }
    let mut headline = format!("{place}: {}", counts(cell, &tally));
    if let Some(reach) = &tally.cycles_until_found {
        let median = reach.median.map_or_else(|| format!("beyond {}", cell.cycles), |median| median.to_string());
        let _ = if reach.least == reach.most {
            // There is no range.
            write!(headline, "; cycles until found: {}", reach.least)
        } else {
            write!(headline, "; cycles until found: median {median}, range {} to {}", reach.least, reach.most)
        };
        if reach.passed > 0 {
            let _ = write!(headline, " ({} passed {} cycles)", reach.passed, cell.cycles);
        }
    }
    if let Some(rate) = tally.rate.filter(|_| tally.caught() > 0) {
        let _ = write!(headline, "; rate {}", rate.percent());
    }
    let mut details = vec![headline];
    for told in &tally.titles {
        let kind = match told.kind {
            // The title says it all.
            FindingKind::Splat | FindingKind::RemovalStuck => String::new(),
            kind => format!("{}: ", kind.name()),
        };
        details.push(format!(
            "{kind}{} ({} of {}; seed {}, cycle {})",
            told.title,
            told.runs,
            cell.runs.len(),
            told.seed,
            told.cycle
        ));
    }
    details.extend(inconclusive(cell).map(str::to_owned));
    if let (Some(told), Some(row)) = (tally.titles.first(), matrix.header.scenarios.get(cell.row)) {
        details.push(format!(
            "again: plugstorm storm {} --design {} --seed {} --cycles {} --kernel {}",
            row.file.display(),
            cell.design.name(),
            told.seed,
            cell.cycles,
            row.kernel
        ));
    }
    details
}

/// `hung 2 of 3, passed 1 of 3`.
fn counts(cell: &Cell, tally: &Tally) -> String {
    let n = cell.runs.len();
    let counts = [
        ("hung", tally.hung),
        ("found", tally.found),
        ("passed", tally.passed),
        ("inconclusive", tally.inconclusive),
        ("to do", tally.pending),
    ];
    let told: Vec<String> =
        counts.iter().filter(|(_, k)| *k > 0).map(|(what, k)| format!("{what} {k} of {n}")).collect();
    told.join(", ")
}

/// Why runs prove nothing, each reason once.
fn inconclusive(cell: &Cell) -> impl Iterator<Item = &str> {
    let mut reasons: Vec<&str> = Vec::new();
    for came in cell.runs.iter().flatten() {
        if let Came::Inconclusive { reason } = came
            && !reasons.contains(&reason.as_str())
        {
            reasons.push(reason);
        }
    }
    reasons.into_iter()
}

/// Breaks a text between words, with `mark` before the first line and as much room before the others.
fn paragraph(text: &mut String, mark: &str, words: &str, width: usize) {
    let margin = mark.chars().count();
    for (at, line) in wrapped(words, width.saturating_sub(margin)).iter().enumerate() {
        let _ = match at {
            0 => writeln!(text, "{mark}{line}"),
            _ => writeln!(text, "{:margin$}{line}", ""),
        };
    }
}

/// Titles come from a guest's console: no control characters.
fn plain(text: &str) -> String {
    text.chars().filter(|c| *c == '\n' || !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{matrix, wide};
    use super::*;

    #[test]
    fn for_a_list() {
        insta::assert_snapshot!(markdown(&matrix()));
    }

    #[test]
    fn for_a_terminal() {
        insta::assert_snapshot!(terminal(&matrix(), 100));
    }

    #[test]
    fn a_wide_one_comes_in_parts_that_fit() {
        let matrix = wide();
        insta::assert_snapshot!(table::render(&matrix, MAIL_WIDTH, Style::Markdown));
        for line in markdown(&matrix).lines().filter(|line| !line.contains('/')) {
            assert!(line.chars().count() <= MAIL_WIDTH, "{line}");
        }
    }

    #[test]
    fn nothing_of_the_guest_reaches_the_terminal_but_text() {
        let mut matrix = matrix();
        matrix.cells[0].runs[0] = super::super::tests::found(1, "BUG: \u{1b}[31mred");
        for text in [markdown(&matrix), terminal(&matrix, 80), cell_line(&matrix.cells[0])] {
            assert!(text.contains("red") && !text.contains('\u{1b}'), "{text}");
        }
    }
}
