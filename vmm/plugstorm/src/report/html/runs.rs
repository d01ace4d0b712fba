//! The runs themselves, what they ran, and what is worth knowing.

use maud::{Markup, html};

use super::{duration, shown};
use crate::report::reproduce::file_name;
use crate::report::{Distinct, Overall, Report, Run};
use crate::results::{Origin, RunResult, Verdict};
use crate::summary::count;

/// Runs that are listed. Those beyond are in the settings' counts.
const MOST_RUNS: usize = 2000;
/// More runs than this are folded.
const MOST_OPEN: usize = 30;

/// All runs, where there are several.
pub(super) fn section(report: &Report) -> Markup {
    if report.runs.len() < 2 {
        return html! {};
    }
    html! {
        section aria-labelledby="runs" {
            h2 #runs { "Runs" }
            @if report.settings.len() > MOST_OPEN {
                details { summary { "Each of the " (report.settings.len()) " settings" } (settings(report)) }
            } @else { (settings(report)) }
            @if report.runs.len() > MOST_OPEN {
                details { summary { "Each of the " (report.runs.len()) " runs" } (each(report)) }
            } @else { (each(report)) }
        }
    }
}

fn settings(report: &Report) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Runs by setting" {
            table {
                caption { "By what they have in common" }
                thead {
                    tr {
                        th scope="col" { "scenario" } th scope="col" { "kernel" } th.n scope="col" { "cycles" }
                        @for head in ["runs", "found", "clean", "no verdict"] { th.n scope="col" { (head) } }
                    }
                }
                tbody {
                    @for setting in &report.settings {
                        tr {
                            td { (shown(&setting.name())) }
                            td { (shown(&setting.kernel)) }
                            td.n { (setting.cycles) }
                            td.n { (setting.runs.len()) }
                            td.n.stuck[setting.found > 0] { (setting.found) }
                            td.n { (setting.clean) } td.n { (setting.inconclusive) }
                        }
                    }
                }
            }
        }
    }
}

fn each(report: &Report) -> Markup {
    // By run: the places of what it found.
    let mut found: Vec<Vec<usize>> = vec![Vec::new(); report.runs.len()];
    for (number, distinct) in (1..).zip(&report.findings) {
        for seen in &distinct.seen {
            if let Some(of_run) = found.get_mut(seen.run)
                && of_run.last() != Some(&number)
            {
                of_run.push(number);
            }
        }
    }
    html! {
        div.scroll tabindex="0" role="region" aria-label="Each run" {
            table {
                caption { "Each run" }
                thead {
                    tr {
                        th scope="col" { "run" } th.n scope="col" { "seed" } th scope="col" { "verdict" }
                        th.n scope="col" { "cycles" } th.n scope="col" { "took" } th scope="col" { "what" }
                    }
                }
                tbody {
                    @for (run, found) in report.runs.iter().zip(&found).take(MOST_RUNS) { (line(run, found, &report.findings)) }
                }
            }
        }
        @if report.runs.len() > MOST_RUNS { p.dim { "and " (report.runs.len() - MOST_RUNS) " more" } }
    }
}

fn line(run: &Run, found: &[usize], findings: &[Distinct]) -> Markup {
    let result = &run.result;
    let (word, class) = verdict(result);
    html! {
        tr {
            td { (shown(&run.name)) } td.n { (result.seed) }
            td { span class=(class) { (word) } }
            td.n { (result.cycles.completed) " of " (result.cycles.asked) }
            td.n { (duration(result.duration_ns)) }
            td.wide {
                @for (at, number) in found.iter().enumerate() {
                    @if at > 0 { ", " }
                    @if let Some(distinct) = findings.get(number - 1) {
                        a href={ "#finding-" (number) } title=(shown(&distinct.title)) { "finding " (number) }
                    }
                }
                @if found.is_empty() { @if let Some(reason) = &result.reason { (shown(reason)) } }
            }
        }
    }
}

fn verdict(result: &RunResult) -> (&'static str, &'static str) {
    match Overall::of(result) {
        Overall::Known => ("found, known", "known-word"),
        Overall::Found => ("found", "found"),
        Overall::Clean => ("clean", "clean"),
        Overall::Inconclusive if result.verdict == Verdict::Running => ("not ended", "doubtful"),
        Overall::Inconclusive => ("inconclusive", "doubtful"),
        Overall::Interrupted => ("interrupted", "doubtful"),
    }
}

/// What was run: each scenario once.
pub(super) fn scenarios(report: &Report) -> Markup {
    let mut each: Vec<(&RunResult, Option<&Origin>)> = Vec::new();
    for run in &report.runs {
        let origin = run.result.origin.as_ref();
        let is_same = |(other, known): &(&RunResult, Option<&Origin>)| {
            other.scenario == run.result.scenario
                && known.map(|known| &known.digest) == origin.map(|origin| &origin.digest)
        };
        if !each.iter().any(is_same) {
            each.push((&run.result, origin));
        }
    }
    html! {
        section aria-labelledby="scenarios" {
            h2 #scenarios { @if each.len() == 1 { "Scenario" } @else { "Scenarios" } }
            @for (result, origin) in each {
                p { strong { (shown(&result.scenario)) } @if !result.about.is_empty() { ": " (shown(&result.about)) } }
                @match origin {
                    Some(origin) => {
                        p.kind { (shown(&origin.file)) ", digest " (shown(&origin.digest)) " (xxh3)" }
                        @if let Some(text) = &origin.text {
                            details { summary { (shown(&file_name(result))) ", " (count(text.lines().count() as u64, "line")) } pre tabindex="0" { (shown(text)) } }
                        }
                    }
                    None => p.kind { "The result is of an earlier version, which did not keep the scenario's text." }
                }
            }
        }
    }
}

/// Of all runs, each once.
pub(super) fn notes(report: &Report) -> Markup {
    let warnings = report.runs.iter().flat_map(|run| &run.result.warnings);
    let mut notes: Vec<&String> = report.unread.iter().chain(warnings).collect();
    notes.sort_unstable();
    notes.dedup();
    html! {
        @if !notes.is_empty() {
            section aria-labelledby="notes" {
                h2 #notes { "Notes" }
                ul { @for note in notes { li { (shown(note)) } } }
            }
        }
    }
}
