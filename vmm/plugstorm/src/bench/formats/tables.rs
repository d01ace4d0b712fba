//! What the tables say: designs down, costs across, and each cost by itself.

use std::collections::BTreeMap;

use plugstorm_observe::statistics::Bootstrap;

use super::super::crosscheck::agreements;
use super::super::numbers::{digits, multiple, percent, quantity, with_interval};
use super::super::results::Results;
use super::super::series::{Series, Unit, is_boot};
use super::super::summary::{Entry, Mode, Percentile};
use super::super::surprise::SURPRISE;
use super::grid::Grid;
use crate::report::visible;
use crate::scenario::Design;

/// A cell without a figure.
const NONE: &str = "-";

/// One cost of all designs.
pub(super) struct Cost {
    /// What it is, in words.
    pub(super) title: String,
    /// Designs down, percentiles across.
    pub(super) grid: Grid,
    /// What the table cannot say: modes, and errors.
    pub(super) notes: Vec<String>,
}

/// Designs down, the chosen costs across.
pub(super) fn glance(results: &Results) -> Option<Grid> {
    let costs = by_cost(results);
    let columns: Vec<(String, &Vec<&Entry>)> = HEADLINES.iter().filter_map(|headline| headline.find(&costs)).collect();
    if columns.is_empty() {
        return None;
    }
    let mut designs: Vec<&str> =
        columns.iter().flat_map(|(_, entries)| entries.iter().map(|entry| design(entry))).collect();
    designs.sort_by_key(|name| order(name));
    designs.dedup();
    let cell = |name: &str, entries: &[&Entry]| {
        let entry = entries.iter().find(|entry| design(entry) == name);
        entry.map_or_else(|| NONE.to_owned(), |entry| short(results, entry))
    };
    let row = |name: &str| {
        let cells = columns.iter().map(|(_, entries)| cell(name, entries));
        std::iter::once(shown(name)).chain(cells).collect()
    };
    let heads = columns.iter().map(|(head, _)| head.clone());
    Some(Grid {
        heads: std::iter::once("design".to_owned()).chain(heads).collect(),
        rows: designs.into_iter().map(row).collect(),
    })
}

/// Each cost of designs, in the order of their names.
pub(super) fn costs(results: &Results) -> Vec<Cost> {
    by_cost(results).iter().map(|(cost, entries)| table(results, title(cost), entries, design)).collect()
}

/// What is of no design: what measuring costs, and the kernel's own.
pub(super) fn others(results: &Results) -> Option<Cost> {
    let is_other =
        |entry: &&Entry| entry.side == results.side && entry.series.measure.design.is_none() && !is_boot(&entry.series);
    let entries: Vec<&Entry> = results.summary.entries.iter().filter(is_other).collect();
    let names: Vec<String> = entries.iter().map(|entry| title(&entry.series)).collect();
    let cells = |(entry, name): (&&Entry, &String)| {
        let of = |percentile| entry.at(percentile).map_or_else(|| NONE.to_owned(), |of| quantity(of.value, entry.unit));
        let p50 = entry
            .at(Percentile::P50)
            .map_or_else(|| NONE.to_owned(), |of| with_interval(of.value, of.interval, entry.unit));
        vec![shown(name), p50, of(Percentile::P90)]
    };
    let grid = Grid {
        heads: ["measure", "p50 (95 %)", "p90"].map(str::to_owned).to_vec(),
        rows: entries.iter().zip(&names).map(cells).collect(),
    };
    let notes = entries.iter().zip(&names).flat_map(|(entry, name)| notes(results, entry, name)).collect();
    (!entries.is_empty()).then(|| Cost { title: "What measuring costs, and the kernel's own".to_owned(), grid, notes })
}

/// Our measures beside the kernel's own.
pub(super) fn checks(results: &Results) -> Vec<String> {
    let all = agreements(&results.summary, results.side, Bootstrap::default());
    all.iter()
        .map(|of| format!("{} and {}: {}", shown(&of.ours.name()), shown(&of.theirs.name()), of.words()))
        .collect()
}

fn table(results: &Results, title: String, entries: &[&Entry], name: fn(&Entry) -> &str) -> Cost {
    let unit = entries.first().map_or(Unit::Ns, |entry| entry.unit);
    let mut columns: Vec<Column> = Vec::new();
    // The header has how many boots there are: here only where one of them gave nothing.
    if entries.iter().any(|entry| entry.boots != results.pool.boots(results.side)) {
        columns.push(("boots".to_owned(), Box::new(|entry| entry.boots.to_string())));
    }
    if results.has_times() || !unit.is_time() {
        let head = if unit.is_time() { "p50 (95 %)" } else { "each" };
        columns.push((head.to_owned(), Box::new(|entry| of(entry, Percentile::P50, true))));
        for percentile in [Percentile::P90, Percentile::P99] {
            if unit.is_time() && entries.iter().any(|entry| entry.at(percentile).is_some()) {
                columns.push((percentile.name().to_owned(), Box::new(move |entry| of(entry, percentile, false))));
            }
        }
    }
    let is_related = entries.iter().any(|entry| !entry.relative.is_empty());
    if is_related {
        for percentile in Percentile::ALL {
            // Where there are times, the ratio of p50 is enough.
            let is_wanted = percentile == Percentile::P50 || (unit.is_time() && !results.has_times());
            if is_wanted && entries.iter().any(|entry| entry.relative.contains_key(&percentile)) {
                let has_interval = !results.has_times() && unit.is_time();
                let head =
                    if has_interval { format!("{} ratio (95 %)", percentile.name()) } else { "ratio".to_owned() };
                columns.push((head, Box::new(move |entry| ratio(entry, percentile, has_interval))));
            }
        }
    }
    if results.has_times() && entries.iter().any(|entry| entry.throughput.is_some()) {
        columns.push((
            "together".to_owned(),
            Box::new(|entry| entry.throughput.map_or_else(|| NONE.to_owned(), |of| rate(of.value))),
        ));
    }
    let mut entries = entries.to_vec();
    entries.sort_by_key(|entry| order(name(entry)));
    let row = |entry: &&Entry| {
        let cells = columns.iter().map(|(_, cell)| cell(entry));
        std::iter::once(shown(name(entry))).chain(cells).collect()
    };
    let heads = columns.iter().map(|(head, _)| head.clone());
    let grid = Grid {
        heads: std::iter::once("design".to_owned()).chain(heads).collect(),
        rows: entries.iter().map(row).collect(),
    };
    let notes = entries.iter().flat_map(|entry| notes(results, entry, name(entry))).collect();
    Cost { title, grid, notes }
}

/// What is above a column, and what is in it.
type Column = (String, Box<dyn Fn(&Entry) -> String>);

fn of(entry: &Entry, percentile: Percentile, has_interval: bool) -> String {
    let Some(estimate) = entry.at(percentile) else { return NONE.to_owned() };
    with_interval(estimate.value, estimate.interval.filter(|_| has_interval), entry.unit)
}

fn ratio(entry: &Entry, percentile: Percentile, has_interval: bool) -> String {
    let told = entry.relative.get(&percentile).map(|of| multiple(of.value, of.interval.filter(|_| has_interval)));
    told.unwrap_or_else(|| NONE.to_owned())
}

/// One figure that stands for a measure.
fn short(results: &Results, entry: &Entry) -> String {
    let p50 = Percentile::P50;
    match entry.at(p50) {
        Some(estimate) if results.has_times() || !entry.unit.is_time() => quantity(estimate.value, entry.unit),
        Some(_) => entry.relative.get(&p50).map_or_else(|| NONE.to_owned(), |of| format!("{}x", digits(of.value))),
        None => NONE.to_owned(),
    }
}

/// `94.1 M/s`.
fn rate(a_second: f64) -> String {
    match a_second {
        rate if rate >= 1e6 => format!("{} M/s", digits(rate / 1e6)),
        rate if rate >= 1e3 => format!("{} k/s", digits(rate / 1e3)),
        rate => format!("{}/s", digits(rate)),
    }
}

fn notes(results: &Results, entry: &Entry, name: &str) -> Vec<String> {
    let mut notes = Vec::new();
    if entry.modes.len() > 1 {
        notes.push(format!("{}: {}", shown(name), modes(&entry.modes, results.has_times())));
    }
    if let Some(error) = &entry.error {
        let all = entry.failed + entry.boots;
        let how = if entry.boots == 0 {
            "not measured".to_owned()
        } else {
            format!("not measured in {} of {all} boots", entry.failed)
        };
        notes.push(format!("{}: {how}: {}", shown(name), shown(error)));
    }
    notes
}

/// `two modes: 70 % around 9.00 us, 30 % around 20.0 ms`.
fn modes(modes: &[Mode], has_times: bool) -> String {
    let first = modes.first().map_or(1.0, |mode| mode.p50.max(1.0));
    let each = modes.iter().enumerate().map(|(at, mode)| {
        let share = format!("{:.0} %", mode.share * 100.0);
        match (has_times, at) {
            (true, _) => format!("{share} around {}", quantity(mode.p50, Unit::Ns)),
            (false, 0) => share,
            (false, _) => format!("{share} at {} times that", digits(mode.p50 / first)),
        }
    });
    format!("{} modes: {}", modes.len(), each.collect::<Vec<_>>().join(", "))
}

fn by_cost(results: &Results) -> BTreeMap<Series, Vec<&Entry>> {
    let mut costs: BTreeMap<Series, Vec<&Entry>> = BTreeMap::new();
    for entry in &results.summary.entries {
        if entry.side == results.side && entry.series.measure.design.is_some() {
            costs.entry(entry.series.cost()).or_default().push(entry);
        }
    }
    costs
}

fn design(entry: &Entry) -> &str {
    entry.series.measure.design.as_deref().unwrap_or_default()
}

/// The module's order; what it does not have comes last.
fn order(name: &str) -> (usize, String) {
    let place = Design::ALL.iter().position(|design| design.name() == name);
    (place.unwrap_or(usize::MAX), name.to_owned())
}

fn shown(text: &str) -> String {
    visible(text).replace(['\n', '\t'], " ")
}

/// `revoke, gap 2000 us, hold 0 us, readers 2`.
pub(super) fn title(series: &Series) -> String {
    let part = series.part.map(|part| format!(", {part}")).unwrap_or_default();
    let settings = series.measure.settings.iter().map(|(key, value)| match key.strip_suffix("_us") {
        Some(key) => format!(", {key} {value} us"),
        None => format!(", {key} {value}"),
    });
    shown(&format!("{}{part}{}", series.measure.kind, settings.collect::<String>()))
}

/// A column of the first table: what stands above it, and which cost it is.
struct Headline {
    head: &'static str,
    kind: &'static str,
    part: Option<&'static str>,
    /// Settings that it must have.
    with: &'static [(&'static str, &'static str)],
    /// A setting of which it is the greatest, and greater than 1.
    most: Option<&'static str>,
}

const fn headline(
    head: &'static str,
    kind: &'static str,
    part: Option<&'static str>,
    with: &'static [(&'static str, &'static str)],
    most: Option<&'static str>,
) -> Headline {
    Headline { head, kind, part, with, most }
}

const HEADLINES: [Headline; 11] = [
    headline("pair", "access", None, &[("threads", "1"), ("objects", "1"), ("context", "process")], None),
    headline("pair, # threads", "access", None, &[("objects", "1"), ("context", "process")], Some("threads")),
    headline("instructions", "instructions", None, &[("operation", "pair")], None),
    headline("locked", "instructions", Some("locked"), &[("operation", "pair")], None),
    headline("revoke", "revoke", None, &[("readers", "0"), ("gap_us", "2000")], None),
    headline("revoke, # readers", "revoke", None, &[("hold_us", "0"), ("gap_us", "2000")], Some("readers")),
    headline("sleeper", "sleeper", None, &[], None),
    headline("# revoked, each", "revoke-many", None, &[("batched", "no")], Some("resources")),
    headline("error after removal", SURPRISE, Some("told"), &[], None),
    headline("init", "allocate", Some("init"), &[], None),
    headline("bytes", "memory", None, &[], None),
];

impl Headline {
    fn find<'a, 'b>(&self, costs: &'b BTreeMap<Series, Vec<&'a Entry>>) -> Option<(String, &'b Vec<&'a Entry>)> {
        let greatest = |series: &Series| {
            self.most.map_or(Some(0), |key| series.setting(key)?.parse::<u64>().ok().filter(|value| *value > 1))
        };
        let fits = |series: &Series| {
            series.measure.kind == self.kind
                && series.part == self.part
                && self.with.iter().all(|(key, value)| series.setting(key) == Some(value))
        };
        let found = costs.iter().filter(|(series, _)| fits(series));
        let (most, entries) =
            found.filter_map(|(series, entries)| Some((greatest(series)?, entries))).max_by_key(|(most, _)| *most)?;
        Some((self.head.replace('#', &most.to_string()), entries))
    }
}

/// What a gate is, in words.
pub(super) fn gate(gate: f64) -> String {
    percent(gate)
}
