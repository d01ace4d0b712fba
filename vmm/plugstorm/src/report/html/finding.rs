//! A finding: what it is, how often, who waits for whom, what happened around it.

use maud::{Markup, html};
use plugstorm_observe::hang::DomainBalance;

use super::{command_line, seen, sentence, shown, strip as drawing};
use crate::report::stacks::{self, Annotate, Line, Stack};
use crate::report::strip::Strip;
use crate::report::text::{cycles, rates};
use crate::report::{Distinct, Report};
use crate::results::{Finding, RunResult};
use crate::summary::count;

/// Runs that are listed with a finding.
const MOST_RUNS: usize = 100;

pub(super) fn article(
    report: &Report,
    found: &Distinct,
    number: usize,
    strip: Option<&Strip>,
    annotate: &Annotate<'_>,
) -> Markup {
    let Some((run, finding)) = found.first(&report.runs) else { return html! {} };
    let stacks = stacks::of(finding);
    let id = format!("finding-{number}");
    html! {
        article id=(id) aria-labelledby={ (id) "-title" } class=[found.known.is_some().then_some("known")] {
            h3 id={ (id) "-title" } { (number) ". " (shown(&found.title)) }
            p.kind { (found.kind.name()) (removed(finding)) @if found.rates.len() < 2 { ": " (rates(report, found).join("")) } }
            @if !found.alt_titles.is_empty() {
                p.kind { "also: " @for (at, title) in found.alt_titles.iter().enumerate() { @if at > 0 { "; " } (shown(title)) } }
            }
            @if found.rates.len() > 1 { (by_setting(report, found)) }
            @if let Some(why) = &found.known { (known(why, finding.known_url.as_deref())) }
            @for line in finding.explanation.lines() { p { (sentence(line)) } }
            (columns(&run.result, &stacks, annotate))
            @for domain in finding.hang.iter().flat_map(|hang| &hang.unbalanced) { p.kind { (readers(domain)) } }
            (seen::locks(finding))
            (seen::processors(&run.result, finding, annotate))
            @if let Some(strip) = strip {
                h4 { "Around it" }
                (drawing::draw(strip, &id))
            }
            (reported(finding))
            (met(report, found))
            h4 { "Again" }
            p.again { (command_line(&run.result)) }
        }
    }
}

fn removed(finding: &Finding) -> String {
    match (&finding.device, finding.how) {
        (Some(device), Some(how)) => format!(", device {} removed by {}", shown(device), how.name()),
        (Some(device), None) => format!(", device {}", shown(device)),
        _ => String::new(),
    }
}

fn known(why: &str, url: Option<&str>) -> Markup {
    // A reader is to see where it leads; only what a browser opens as a page is a link.
    let url = url.map(shown);
    let is_link = url.as_ref().is_some_and(|url| url.starts_with("https://") || url.starts_with("http://"));
    html! {
        p.note {
            "Known, and accepted: " (shown(why))
            @if let Some(url) = url {
                " (" @if is_link { a href=(url) rel="noreferrer" { (url) } } @else { (url) } ")"
            }
        }
    }
}

fn by_setting(report: &Report, found: &Distinct) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="How often" {
            table {
                thead {
                    tr {
                        th scope="col" { "scenario" } th scope="col" { "kernel" }
                        th.n scope="col" { "runs" } th.n scope="col" { "rate, 95 %" } th scope="col" { "when" }
                    }
                }
                tbody {
                    @for rate in &found.rates {
                        @if let Some(setting) = report.settings.get(rate.setting) {
                            tr {
                                td { (shown(&setting.name())) }
                                td { (shown(&setting.kernel)) }
                                td.n { (rate.runs) " of " (rate.of) }
                                td.n { @if let Some(interval) = rate.interval { (interval.percent()) } }
                                td { (cycles(rate)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Stacks beside each other.
pub(super) fn columns(result: &RunResult, stacks: &[Stack], annotate: &Annotate<'_>) -> Markup {
    html! {
        @if !stacks.is_empty() {
            div.stacks.many[stacks.len() > 2] { @for stack in stacks { (column(result, stack, annotate)) } }
        }
    }
}

fn column(result: &RunResult, stack: &Stack, annotate: &Annotate<'_>) -> Markup {
    let lines = stack.lines(result, annotate);
    let matters = stack.matters_at(&lines);
    html! {
        section {
            h4 { (stack.role) ": " (stack.heading(&lines)) }
            pre tabindex="0" {
                @for line in &lines {
                    @if matters.is_some_and(|matters| std::ptr::eq(matters, line)) { strong { (frame(line)) } }
                    @else { (frame(line)) }
                    "\n"
                }
            }
        }
    }
}

/// The function stands out; where in it is for who has the binary. What the unwinder guessed stands back.
fn frame(line: &Line) -> Markup {
    let text = shown(&line.frame);
    let is_guess = text.starts_with("? ");
    let (function, rest) = text.split_at(if is_guess { 0 } else { text.find('+').unwrap_or(text.len()) });
    html! {
        span class=[line.inlined.then_some("inlined")] { (function) } span.dim { (rest) @if line.inlined { " (inlined)" } }
        @if let Some(place) = &line.place { "  " span.place { (shown(place)) } }
    }
}

fn readers(domain: &DomainBalance) -> String {
    let [one, other] = domain.inside();
    format!("Readers inside {} by its counters: {one} at index 0, {other} at index 1.", shown(&domain.name))
}

/// What the kernel said, folded: of a hang the console's end.
fn reported(finding: &Finding) -> Markup {
    let (what, text) = match &finding.splat {
        Some(splat) => ("The kernel's report", shown(splat)),
        None => ("The console's last lines", shown(&finding.console.join("\n"))),
    };
    let lines = text.lines().count();
    html! {
        @if lines > 0 {
            details { summary { (what) ", " (count(lines as u64, "line")) } pre tabindex="0" { (text) } }
        }
    }
}

/// The runs that met it, where there are several.
fn met(report: &Report, found: &Distinct) -> Markup {
    if found.runs < 2 {
        return html! {};
    }
    let seen = found.seen.iter().filter_map(|seen| {
        let run = report.runs.get(seen.run)?;
        Some((run, run.result.findings.get(seen.finding)?))
    });
    html! {
        details {
            summary { "The " (count(found.runs.into(), "run")) " that met it" }
            div.scroll tabindex="0" role="region" aria-label="Runs" {
                table {
                    thead {
                        tr { th scope="col" { "run" } th.n scope="col" { "seed" } th.n scope="col" { "cycle" } th.n scope="col" { "times" } }
                    }
                    tbody {
                        @for (run, finding) in seen.take(MOST_RUNS) {
                            tr {
                                td { (shown(&run.name)) } td.n { (run.result.seed) }
                                td.n { (u64::from(finding.cycle) + 1) } td.n { (finding.count) }
                            }
                        }
                    }
                }
            }
            @if found.seen.len() > MOST_RUNS { p.dim { "and " (found.seen.len() - MOST_RUNS) " more" } }
        }
    }
}
