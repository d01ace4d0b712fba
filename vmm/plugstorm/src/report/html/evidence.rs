//! What the verdict rests on, as tables.

use maud::{Markup, html};

use super::shown;
use crate::report::Report;
use crate::report::evidence::{Calls, Evidence, Removals, Times};
use crate::summary::{count, duration};

/// Longer tables are folded.
const MOST_OPEN_LINES: usize = 24;

pub(super) fn tables(report: &Report, evidence: &Evidence) -> Markup {
    let many = report.settings.len() > 1;
    let lines = evidence.calls.len() + evidence.removals.len();
    if lines == 0 {
        return html! {};
    }
    let tables = html! {
        @if !evidence.removals.is_empty() { (removals(&evidence.removals, many)) }
        @if !evidence.calls.is_empty() { (calls(&evidence.calls, many)) }
        @if evidence.left_out > 0 { p.dim { (count(evidence.left_out as u64, "line")) " left out." } }
    };
    html! {
        section aria-labelledby="evidence" {
            h2 #evidence { "Evidence" }
            @if lines > MOST_OPEN_LINES {
                details { summary { (count(lines as u64, "line")) " on removals and hammers" } (tables) }
            } @else { (tables) }
        }
    }
}

fn removals(removals: &[Removals], many: bool) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Removals" {
            table {
                caption { "Removals" }
                thead {
                    tr {
                        @if many { th scope="col" { "setting" } }
                        th scope="col" { "by" }
                        @for head in ["asked", "seen", "finished", "stuck"] { th.n scope="col" { (head) } }
                        th scope="col" { "asked to seen" }
                        th scope="col" { "asked to finished" }
                    }
                }
                tbody {
                    @for line in removals {
                        tr {
                            @if many { td { (shown(&line.setting)) } }
                            td { (line.how) }
                            td.n { (line.asked) } td.n { (line.seen) } td.n { (line.finished) }
                            td.n.stuck[line.stuck > 0] { (line.stuck) }
                            td { (times(line.seen_after.as_ref())) }
                            td { (times(line.finished_after.as_ref())) }
                        }
                    }
                }
            }
        }
    }
}

fn calls(calls: &[Calls], many: bool) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Hammers" {
            table {
                caption { "Hammers" }
                thead {
                    tr {
                        @if many { th scope="col" { "setting" } }
                        th scope="col" { "hammer" } th scope="col" { "on" } th scope="col" { "threads" }
                        th scope="col" { "operation" }
                        @for head in ["calls", "a second", "ok"] { th.n scope="col" { (head) } }
                        th scope="col" { "errors" } th.n scope="col" { "longest" }
                    }
                }
                tbody {
                    @for line in calls {
                        tr {
                            @if many { td { (shown(&line.setting)) } }
                            td { (shown(&line.hammer)) }
                            td { (shown(&line.device)) }
                            td { (line.threads) @if line.threads > 1 && line.shared { ", one descriptor" } }
                            td.mono { (line.operation) }
                            td.n { (line.calls) }
                            td.n { @if let Some(rate) = line.per_second() { (format!("{rate:.0}")) } }
                            td.n { (line.succeeded) }
                            td.wide { (failed(&line.failed)) }
                            td.n { (duration(line.longest_ns)) }
                        }
                    }
                }
            }
        }
    }
}

fn failed(failed: &[(String, u64)]) -> String {
    let each: Vec<String> = failed.iter().map(|(name, count)| format!("{name}\u{a0}{count}")).collect();
    each.join(", ")
}

/// In short.
pub(super) fn times(times: Option<&Times>) -> String {
    let Some(times) = times else { return String::new() };
    match times.percentiles {
        Some([p50, _, p99]) if times.n > 1 => {
            format!("p50 {}, p99 {}, max {}", duration(p50), duration(p99), duration(times.max_ns))
        }
        _ if times.n == 1 => duration(times.max_ns),
        _ => format!("{} to {}", duration(times.min_ns), duration(times.max_ns)),
    }
}
