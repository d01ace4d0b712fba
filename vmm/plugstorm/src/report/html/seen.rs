//! What was seen of a guest that hangs, beside the stacks of its threads: held locks, and what its processors did.

use maud::{Markup, html};

use super::finding::columns;
use super::{sentence, shown};
use crate::report::stacks::Annotate;
use crate::report::{locks, processors};
use crate::results::{Finding, RunResult};

pub(super) fn locks(finding: &Finding) -> Markup {
    let held = locks::of(finding);
    if held.is_empty() {
        return html! {};
    }
    let is_shared = held.iter().any(|held| !held.also.is_empty());
    html! {
        div.scroll tabindex="0" role="region" aria-label="Locks" {
            table {
                caption { "Locks that these threads hold or wait for, as lockdep listed them" }
                thead {
                    tr {
                        th scope="col" { "thread" } th scope="col" { "lock" } th scope="col" { "taken in" }
                        th scope="col" { "at" } @if is_shared { th scope="col" { "also listed for" } }
                    }
                }
                tbody {
                    @for held in &held {
                        tr {
                            td { (held.whose) } td.mono { (held.lock) } td.mono { (held.taken_in) } td.mono { (held.instance) }
                            @if is_shared { td { (held.also.join(", ")) } }
                        }
                    }
                }
            }
        }
    }
}

pub(super) fn processors(result: &RunResult, finding: &Finding, annotate: &Annotate<'_>) -> Markup {
    let Some(report) = &finding.processors else { return html! {} };
    let paragraph = processors::paragraph(finding);
    let stacks = processors::stacks(finding);
    html! {
        @if paragraph.is_some() || !stacks.is_empty() {
            h4 { (processors::heading(report)) }
            @if let Some(paragraph) = paragraph { p { (sentence(&shown(paragraph))) } }
            (columns(result, &stacks, annotate))
        }
    }
}
