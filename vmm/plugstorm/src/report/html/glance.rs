//! A matrix at a glance: scenarios by designs.

use maud::{Markup, html};

use super::shown;
use crate::report::{Report, Setting};
use crate::results::FindingKind;
use crate::scenario::Design;

/// Scenarios, and designs: a user has a dozen of each.
const MOST: usize = 100;

/// Nothing unless there are several scenarios and several designs, each pair once.
pub(super) fn table(report: &Report) -> Markup {
    let Some((scenarios, designs)) = sides(&report.settings) else { return html! {} };
    html! {
        div.scroll tabindex="0" role="region" aria-label="At a glance" {
            table.glance {
                caption { "At a glance" }
                thead { tr { th scope="col" { "scenario" } @for design in &designs { th scope="col" { span { (design.name()) } } } } }
                tbody {
                    @for scenario in &scenarios {
                        tr {
                            th scope="row" { (shown(scenario)) }
                            @for design in &designs { td { (cell(report, scenario, *design)) } }
                        }
                    }
                }
            }
        }
        p.kind {
            "H: a removal never ended; F: something else was found; \u{b7}: nothing was found; ?: no verdict. With the number of runs \
             where there are several."
        }
    }
}

fn sides(settings: &[Setting]) -> Option<(Vec<&str>, Vec<Design>)> {
    let (mut scenarios, mut designs): (Vec<&str>, Vec<Design>) = (Vec::new(), Vec::new());
    for setting in settings {
        let [design] = setting.designs.as_slice() else { return None };
        if !scenarios.contains(&setting.scenario.as_str()) {
            scenarios.push(&setting.scenario);
        }
        if !designs.contains(design) {
            designs.push(*design);
        }
    }
    // In the order of the designs themselves, as a matrix has them.
    designs.sort_by_key(|design| Design::ALL.iter().position(|known| known == design));
    let is_one_each = settings.iter().enumerate().all(|(at, setting)| {
        let before = settings.get(..at).unwrap_or_default();
        !before.iter().any(|other| other.scenario == setting.scenario && other.designs == setting.designs)
    });
    let fits = (2..=MOST).contains(&scenarios.len()) && (2..=MOST).contains(&designs.len());
    (fits && is_one_each).then_some((scenarios, designs))
}

fn cell(report: &Report, scenario: &str, design: Design) -> Markup {
    let of = |setting: &&Setting| setting.scenario == scenario && setting.designs == [design];
    let Some((place, setting)) = report.settings.iter().enumerate().find(|(_, setting)| of(setting)) else {
        return html! {};
    };
    let runs = setting.runs.len();
    // The findings are in the order of what they say.
    let found = report.findings.iter().zip(1..).find(|(found, _)| found.rates.iter().any(|rate| rate.setting == place));
    html! {
        @if let Some((found, number)) = found {
            a.found href={ "#finding-" (number) } title=(shown(&found.title)) {
                @if found.kind == FindingKind::RemovalStuck { "H" } @else { "F" }
                @if runs > 1 { "\u{a0}" (setting.found) "/" (runs) }
            }
        } @else if setting.verdicts() == 0 { span.doubtful { "?" } } @else { span.dim { "\u{b7}" } }
    }
}
