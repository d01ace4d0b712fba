//! For people: on a terminal, and as Markdown that can be mailed to a list as it is.

use std::fmt::Write as _;

use super::super::compare::{Basis, Difference, Finding};
use super::super::gate::{place, words};
use super::super::results::Results;
use super::grid::{Grid, Style};
use super::tables::{self, Cost};
use crate::calendar::minute;
use crate::matrix::MAIL_WIDTH;
use crate::report::visible;
use crate::summary::{count, wrapped};

/// Labels of the header.
const LABEL: usize = 12;
/// Differences that were not seen and are told one by one: those of which least would have been seen.
const MOST_NOT_SEEN: usize = 12;
/// Sentences of a list.
const MOST_LISTED: usize = 60;

const EMULATED: &str = "The guests ran under QEMU's software emulation. A time measured there says nothing of hardware: what is \
    claimed are ratios between designs within one boot, and counts of instructions and bytes.";
const TIMES: &str = "Times are of the guest's clock. Each figure is the median over boots of that percentile of a boot's samples; \
    in brackets where it lies with 95 % confidence, by bootstrap over boots. ratio: p50 as a multiple of the reference's in the same \
    boot. together: operations a second of all threads. p99 is only given where a boot has 100 samples.";
const RATIOS: &str = "Each ratio is a multiple of the reference design's in the same boot, the median over boots; in brackets where \
    it lies with 95 % confidence, by bootstrap over boots. p99 is only given where a boot has 100 samples.";
const METHOD: &str = "A difference is one if the rank test over boots (Mann and Whitney), corrected for all questions (Holm, 5 %), and \
    the 95 % interval of the ratio of medians agree; it is refused if the ratio is the gate's or more.";

/// As Markdown, no line wider than a mail's unless a word or a column is.
pub(super) fn markdown(results: &Results) -> String {
    render(results, &Page { width: MAIL_WIDTH, style: Style::Markdown })
}

/// For a terminal that has room for so many columns of text.
pub(super) fn terminal(results: &Results, width: usize) -> String {
    render(results, &Page { width: width.max(40), style: Style::Plain })
}

struct Page {
    width: usize,
    style: Style,
}

impl Page {
    fn heading(&self, text: &mut String, words: &str) {
        let mark = if self.style == Style::Markdown { "## " } else { "" };
        let before = if text.ends_with("\n\n") { "" } else { "\n" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{before}{mark}{words}\n\n");
    }

    fn paragraph(&self, text: &mut String, words: &str) {
        self.item(text, "", words);
    }

    fn item(&self, text: &mut String, mark: &str, words: &str) {
        let margin = mark.chars().count();
        for (at, line) in wrapped(&visible(words), self.width.saturating_sub(margin)).iter().enumerate() {
            let _ = match at {
                0 => writeln!(text, "{mark}{line}"),
                _ => writeln!(text, "{:margin$}{line}", ""),
            };
        }
    }

    fn list(&self, text: &mut String, items: &[String]) {
        items.iter().take(MOST_LISTED).for_each(|item| self.item(text, "- ", item));
        if items.len() > MOST_LISTED {
            self.item(text, "- ", &format!("{} more: in the JSON", items.len() - MOST_LISTED));
        }
    }

    fn grid(&self, text: &mut String, grid: &Grid) {
        text.push_str(&grid.render(self.width, self.style));
    }

    fn cost(&self, text: &mut String, cost: &Cost) {
        self.heading(text, &cost.title);
        self.grid(text, &cost.grid);
        if !cost.notes.is_empty() {
            text.push('\n');
            self.list(text, &cost.notes);
        }
    }
}

fn render(results: &Results, page: &Page) -> String {
    let mut text = String::new();
    if page.style == Style::Markdown {
        text.push_str("# plugstorm bench\n\n");
    }
    for (label, value) in facts(results) {
        // Four spaces: verbatim to Markdown, and a margin in a mail.
        let margin = if page.style == Style::Markdown { "    " } else { "" };
        let room = page.width.saturating_sub(LABEL + margin.len());
        for (at, line) in wrapped(&visible(&value), room).iter().enumerate() {
            let label = if at == 0 { label } else { "" };
            let _ = writeln!(text, "{margin}{label:LABEL$}{line}");
        }
    }
    text.push('\n');
    if !results.has_times() {
        page.paragraph(&mut text, EMULATED);
        text.push('\n');
    }
    comparison(&mut text, results, page);
    if let Some(grid) = tables::glance(results) {
        let what = if results.has_times() { "p50" } else { "p50, times as multiples of the reference" };
        page.heading(&mut text, &format!("What each design costs: {what}"));
        page.grid(&mut text, &grid);
        text.push('\n');
        page.paragraph(&mut text, if results.has_times() { TIMES } else { RATIOS });
    }
    tables::costs(results).iter().for_each(|cost| page.cost(&mut text, cost));
    if let Some(cost) = tables::others(results) {
        page.cost(&mut text, &cost);
        if !results.has_times() {
            text.push('\n');
            page.paragraph(
                &mut text,
                "These are the emulator's times: not claimed, only for comparison with each other.",
            );
        }
    }
    let checks = tables::checks(results);
    if !checks.is_empty() {
        page.heading(&mut text, "Beside the kernel's own clock (rcuscale, refscale), in the same boot");
        page.list(&mut text, &checks);
    }
    if !results.pool.left_out.is_empty() {
        page.heading(&mut text, "Left out");
        page.list(&mut text, &results.pool.left_out);
    }
    text
}

fn facts(results: &Results) -> Vec<(&'static str, String)> {
    let header = &results.pool.header;
    let mut facts = vec![("plugstorm", header.plugstorm.clone()), ("begun", minute(header.started_unix_s))];
    for (side, of) in &header.sides {
        let label = match header.sides.len() {
            1 => "guest",
            _ if *side == results.side => "now",
            _ => "before",
        };
        let mut words = format!("{} ({})", of.release, of.kernel);
        if let Some(modules) = &of.modules {
            let _ = write!(words, ", modules of {modules}");
        }
        if of.hz > 0 {
            let _ = write!(words, ", HZ {}", of.hz);
        }
        if let Some(model) = &of.preemption {
            let _ = write!(words, ", preemption {model}");
        }
        let boots = count(results.pool.boots(*side) as u64, "boot");
        let _ = write!(words, ", {}, {boots}", count(of.cpus.into(), "CPU"));
        facts.push((label, words));
    }
    let mut host = header.host.kind.describe().to_owned();
    if let Some(rounds) = header.host.loop_rounds_per_second {
        let _ = write!(host, ", {:.0} million rounds of a guest's loop a second", rounds / 1e6);
    }
    facts.push(("host", host));
    facts.push(("reference", results.summary.reference.clone()));
    facts
}

fn comparison(text: &mut String, results: &Results, page: &Page) {
    let (Some(comparison), Some(verdict)) = (&results.comparison, &results.verdict) else { return };
    let of = match comparison.basis {
        Basis::OneRun => "now against before, boots of both in turns",
        Basis::TwoRuns => "this run against the baseline",
    };
    page.heading(text, &format!("Compared: {of}"));
    page.paragraph(text, &verdict.headline);
    if let Some(why) = &comparison.times_not_judged {
        page.paragraph(text, why);
    }
    let groups = [("Refused", &verdict.refused), ("Other differences, and errors", &verdict.told)];
    for (title, sentences) in groups.into_iter().filter(|(_, sentences)| !sentences.is_empty()) {
        let _ = write!(text, "\n{title}:\n\n");
        page.list(text, sentences);
    }
    let mut quiet: Vec<_> =
        comparison.differences.iter().filter(|of| of.judged && of.finding == Finding::NotSeen).collect();
    if !quiet.is_empty() {
        let least = |of: &Difference| of.detectable.unwrap_or(f64::INFINITY);
        quiet.sort_by(|one, other| least(other).total_cmp(&least(one)));
        let all = count(quiet.len() as u64, "question");
        let few = if quiet.len() > MOST_NOT_SEEN { ", those first of which least would have been seen" } else { "" };
        text.push('\n');
        page.paragraph(text, &format!("No difference seen in {all}{few}:"));
        text.push('\n');
        let seen = |of: &Difference| {
            let words = words(of, results.gate);
            format!("{}: {}", place(of), words.strip_prefix("no difference seen; ").unwrap_or(&words))
        };
        let sentences: Vec<String> = quiet.iter().take(MOST_NOT_SEEN).map(|of| seen(of)).collect();
        page.list(text, &sentences);
    }
    if verdict.too_few > 0 {
        let needed = comparison.needed.map(|n| format!("; {n} boots a side would do")).unwrap_or_default();
        let _ = writeln!(text);
        page.paragraph(text, &format!("Too few boots for {}{needed}.", count(verdict.too_few as u64, "question")));
    }
    let alone = [(comparison.alone[0], "before"), (comparison.alone[1], "now")];
    for (n, side) in alone.into_iter().filter(|(n, _)| *n > 0) {
        let _ = writeln!(text);
        page.paragraph(text, &format!("{} measured {side} only, and not compared.", count(n as u64, "measure")));
    }
    let _ = writeln!(text);
    let gate = results.gate.map(|gate| format!(" The gate: {}.", tables::gate(gate))).unwrap_or_default();
    page.paragraph(text, &format!("{METHOD}{gate}"));
}

#[cfg(test)]
mod tests {
    use super::super::super::simulated;
    use super::super::Format;
    use super::*;

    #[test]
    fn for_a_list() {
        let text = simulated::results(simulated::small()).render(Format::Markdown, 0, "x").unwrap();
        for line in text.lines() {
            assert!(line.chars().count() <= MAIL_WIDTH, "{line}");
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn for_a_terminal() {
        insta::assert_snapshot!(simulated::results(simulated::small()).render(Format::Table, 120, "x").unwrap());
    }

    #[test]
    fn under_emulation_ratios_and_counts_are_told() {
        let text = simulated::results(simulated::nested()).render(Format::Markdown, 0, "x").unwrap();
        assert!(text.contains("QEMU's software emulation"));
        let claimed = text.split("## What measuring costs").next().unwrap();
        for unit in [" ns", " ms", " s "] {
            assert!(!claimed.split("## What each design").nth(1).unwrap().contains(unit), "{unit}: {claimed}");
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn nothing_hidden_is_shown() {
        let mut pool = simulated::small();
        for of in &mut pool.measurements {
            of.measure.kind.push_str("\u{1b}[31m");
            of.error = of.error.take().map(|error| format!("{error}\u{1b}[0m\n# x"));
        }
        let results = simulated::results(pool);
        for format in [Format::Markdown, Format::Table, Format::Csv, Format::Json, Format::Kcidb, Format::Bencher] {
            assert!(!results.render(format, 90, "x").unwrap().contains('\u{1b}'), "{format:?}");
        }
    }
}
