//! A page for a browser: one file that needs nothing from anywhere, without a script.
//!
//! The markup is written with `maud`, which escapes whatever stands in parentheses; raw is the style alone. A policy in the
//! page forbids scripts and everything from elsewhere, should that ever fail.

mod evidence;
mod finding;
mod glance;
mod histogram;
mod runs;
mod seen;
mod strip;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::stacks::Annotate;
use super::text::visible;
use super::{Overall, Report, evidence as sums, strip as strips};
use crate::calendar::minute;
use crate::results::RunResult;
use crate::summary::{count, duration, guests};

const STYLE: &str = include_str!("style.css");
/// No script, no font, no picture, nothing from elsewhere.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";
/// From so many findings on, there is a list of them.
const LIST_FROM: usize = 3;

/// The page.
pub(super) fn render(report: &Report, annotate: &Annotate<'_>) -> String {
    let title = format!("{}: {}", report.overall().word(), shown(&report.headline()));
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="generator" content={ "plugstorm " (env!("CARGO_PKG_VERSION")) };
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main { (body(report, annotate)) }
                footer { "Written by plugstorm " (env!("CARGO_PKG_VERSION")) ". Cycles count from 1." }
            }
        }
    };
    page.into_string()
}

fn body(report: &Report, annotate: &Annotate<'_>) -> Markup {
    let strips = strips::of_findings(&report.findings, &report.runs);
    let sums = sums::of(&report.runs, &report.settings);
    let findings = (1..).zip(report.findings.iter().zip(&strips));
    html! {
        header { (headline(report)) (facts(report)) (glance::table(report)) }
        (evidence::tables(report, &sums))
        @if !report.findings.is_empty() {
            section aria-labelledby="findings" {
                h2 #findings { "Findings" }
                @if report.findings.len() >= LIST_FROM { (contents(report)) }
                @for (number, (found, strip)) in findings {
                    (finding::article(report, found, number, strip.as_ref(), annotate))
                }
            }
        }
        @if !report.known.is_empty() {
            section aria-labelledby="known" {
                h2 #known { "Known findings" }
                ul { @for account in &report.known { li { (shown(account)) } } }
            }
        }
        (histogram::section(&sums))
        (runs::section(report))
        (runs::scenarios(report))
        (runs::notes(report))
    }
}

fn headline(report: &Report) -> Markup {
    let class = match report.overall() {
        Overall::Found => "verdict found",
        Overall::Known => "verdict known-word",
        Overall::Interrupted | Overall::Inconclusive => "verdict doubtful",
        Overall::Clean => "verdict clean",
    };
    html! { h1 { span class=(class) { (report.overall().word()) } " " (sentence(&report.headline())) } }
}

/// What was run on what.
fn facts(report: &Report) -> Markup {
    let [run] = report.runs.as_slice() else { return many(report) };
    let result = &run.result;
    let cycles = &result.cycles;
    html! {
        dl.facts {
            dt { "scenario" } dd { (shown(&result.scenario)) @if !result.about.is_empty() { ": " (shown(&result.about)) } }
            dt { "guest" } dd { (guest(result)) }
            dt { "host" } dd { (result.host.kind.describe()) ", slowdown " (format!("{:.1}", result.slowdown.used)) }
            dt { "cycles" } dd {
                (cycles.completed) " of " (cycles.asked) " completed, seed " (result.seed) ", " (guests(cycles)) ", "
                (duration(result.duration_ns)) " in all"
            }
            dt { "begun" } dd { (minute(result.started_unix_s)) ", plugstorm " (shown(&result.plugstorm)) }
            dt { "again" } dd { (command_line(result)) }
        }
    }
}

/// Of many runs, what they have in common, and what is different each once.
fn many(report: &Report) -> Markup {
    let each = |of: fn(&RunResult) -> String| -> Vec<String> {
        let mut all: Vec<String> = report.runs.iter().map(|run| of(&run.result)).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    let begun = report.runs.iter().map(|run| run.result.started_unix_s).min().unwrap_or_default();
    let took = report.runs.iter().fold(0u64, |sum, run| sum.saturating_add(run.result.duration_ns));
    html! {
        dl.facts {
            dt { "runs" } dd { (report.runs.len()) ", in " (count(report.settings.len() as u64, "setting")) ", " (duration(took)) " of storm in all" }
            dt { "guests" } dd { @for guest in each(guest) { div { (guest) } } }
            dt { "hosts" } dd { @for host in each(|result| result.host.kind.describe().to_owned()) { div { (host) } } }
            dt { "begun" } dd { (minute(begun)) }
        }
    }
}

fn guest(result: &RunResult) -> String {
    let guest = &result.guest;
    let mut words = format!("{} ({})", guest.release.as_deref().unwrap_or("never told its kernel"), guest.kernel);
    if let Some(hz) = guest.hz {
        words.push_str(&format!(", HZ {hz}"));
    }
    if let Some(model) = &guest.preemption {
        words.push_str(&format!(", preemption {model}"));
    }
    words.push_str(&format!(", {} CPUs, {} MiB", guest.cpus, guest.memory_bytes >> 20));
    visible(&words).into_owned()
}

/// The line that runs it again; it breaks between words, and not at their hyphens.
fn command_line(result: &RunResult) -> Markup {
    let line = shown(&super::command(result));
    html! { code.command { @for word in line.split_inclusive(' ') { span { (word.trim_end()) } " " } } }
}

/// What a sentence has in backquotes is code.
fn sentence(text: &str) -> Markup {
    let text = shown(text);
    let is_paired = text.matches('`').count().is_multiple_of(2);
    html! {
        @if is_paired {
            @for (at, part) in text.split('`').enumerate() { @if at % 2 == 1 { code { (part) } } @else { (part) } }
        } @else { (text) }
    }
}

fn contents(report: &Report) -> Markup {
    html! {
        nav aria-label="Findings" {
            ol {
                @for (number, found) in (1..).zip(&report.findings) {
                    li {
                        a href={ "#finding-" (number) } { (shown(&found.title)) }
                        span.dim {
                            @if report.runs.len() > 1 { " in " (found.runs) " of " (report.runs.len()) " runs" }
                            @if found.known.is_some() { " (known)" }
                        }
                    }
                }
            }
        }
    }
}

/// What a guest or a file said, without what hides something.
fn shown(text: &str) -> String {
    visible(text).into_owned()
}

#[cfg(test)]
mod tests;
