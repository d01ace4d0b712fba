//! The same finding in many runs, counted once.
//!
//! Two findings are the same if they are of one kind and any of their titles and alternative titles meet ([`Finding::is_same`]).
//! It is applied until nothing meets any more, so a finding whose alternative title is another's title joins the two.

use std::collections::{BTreeMap, HashMap};

use crate::matrix::Interval;
use crate::results::{Finding, FindingKind};

use super::{Run, Setting};

/// Where a finding was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The run, by its place in the report.
    pub run: usize,
    /// The finding, by its place in the run's result.
    pub finding: usize,
}

/// How often the runs of one setting met a finding.
#[derive(Debug, Clone, PartialEq)]
pub struct Rate {
    /// The setting, by its place in the report.
    pub setting: usize,
    /// Runs that met it.
    pub runs: u32,
    /// Runs with a verdict.
    pub of: u32,
    /// Where the rate lies, with 95 % confidence (Wilson).
    pub interval: Option<Interval>,
    /// The cycles, counted from 1, in which those runs met it first: the earliest, the median, the latest.
    pub cycles: [u32; 3],
}

/// A finding, however many runs met it.
#[derive(Debug, Clone, PartialEq)]
pub struct Distinct {
    /// The title that most runs gave it.
    pub title: String,
    /// All other titles of it.
    pub alt_titles: Vec<String>,
    /// Of which kind it was first.
    pub kind: FindingKind,
    /// Where it was met, in the order of the runs; in a run that met it under several titles, each time.
    pub seen: Vec<Seen>,
    /// Runs that met it.
    pub runs: u32,
    /// How often in all.
    pub count: u64,
    /// By setting, in the order of the settings; of those alone in which it was met.
    pub rates: Vec<Rate>,
    /// Each run that met it says that it is known; the first one's reason.
    pub known: Option<String>,
}

impl Distinct {
    /// The finding where it was met first.
    pub(super) fn first<'a>(&self, runs: &'a [Run]) -> Option<(&'a Run, &'a Finding)> {
        let seen = self.seen.first()?;
        let run = runs.get(seen.run)?;
        Some((run, run.result.findings.get(seen.finding)?))
    }
}

/// What the runs found, each once. Hangs first, since they say most; then what most runs met; what is known comes last.
pub(super) fn distinct(runs: &[Run], settings: &[Setting]) -> Vec<Distinct> {
    let mut found: Vec<Distinct> = groups(runs).into_iter().filter_map(|seen| of_group(seen, runs, settings)).collect();
    // Stable: what is equal stays in the order in which it was met.
    found.sort_by_key(|found| {
        (found.known.is_some(), found.kind != FindingKind::RemovalStuck, std::cmp::Reverse(found.runs))
    });
    found
}

/// Findings whose titles meet.
fn groups(runs: &[Run]) -> Vec<Vec<Seen>> {
    let mut groups: Vec<Vec<Seen>> = Vec::new();
    let mut of_title: HashMap<(FindingKind, &str), usize> = HashMap::new();
    for (run, result) in runs.iter().map(|run| &run.result).enumerate() {
        for (place, finding) in result.findings.iter().enumerate() {
            let titles = || finding.titles().map(|title| (finding.kind, title));
            let mut met: Vec<usize> = titles().filter_map(|title| of_title.get(&title).copied()).collect();
            met.sort_unstable();
            met.dedup();
            let group = match met.split_first() {
                None => {
                    groups.push(Vec::new());
                    groups.len() - 1
                }
                Some((first, others)) => {
                    for other in others {
                        let moved = groups.get_mut(*other).map(std::mem::take).unwrap_or_default();
                        if let Some(group) = groups.get_mut(*first) {
                            group.extend(moved);
                        }
                        of_title.values_mut().filter(|group| *group == other).for_each(|group| *group = *first);
                    }
                    *first
                }
            };
            for title in titles() {
                of_title.insert(title, group);
            }
            if let Some(group) = groups.get_mut(group) {
                group.push(Seen { run, finding: place });
            }
        }
    }
    groups
}

fn of_group(mut seen: Vec<Seen>, runs: &[Run], settings: &[Setting]) -> Option<Distinct> {
    seen.sort_by_key(|seen| (seen.run, seen.finding));
    let findings: Vec<(usize, &Finding)> = seen
        .iter()
        .filter_map(|seen| Some((seen.run, runs.get(seen.run)?.result.findings.get(seen.finding)?)))
        .collect();
    let (_, first) = findings.first()?;
    let mut titles: Vec<(&str, usize)> = Vec::new();
    for (_, finding) in &findings {
        match titles.iter_mut().find(|(title, _)| *title == finding.title) {
            Some((_, times)) => *times += 1,
            None => titles.push((&finding.title, 1)),
        }
    }
    // Of equally frequent ones the first: the greatest of what is turned round.
    let (title, _) = titles.iter().rev().max_by_key(|(_, times)| *times)?;
    let mut alt_titles: Vec<String> = Vec::new();
    for (_, finding) in &findings {
        for other in finding.titles() {
            if other != *title && !alt_titles.iter().any(|known| known == other) {
                alt_titles.push(other.to_owned());
            }
        }
    }
    let known = findings.iter().all(|(_, finding)| finding.known);
    let reason = first.known_reason.clone().unwrap_or_default();
    // By run, counted from 1.
    let mut first_cycles: BTreeMap<usize, u32> = BTreeMap::new();
    for (run, finding) in &findings {
        let cycle = finding.cycle.saturating_add(1);
        first_cycles.entry(*run).and_modify(|first| *first = cycle.min(*first)).or_insert(cycle);
    }
    Some(Distinct {
        title: (*title).to_owned(),
        alt_titles,
        kind: first.kind,
        runs: u32::try_from(first_cycles.len()).unwrap_or(u32::MAX),
        count: findings.iter().fold(0, |sum, (_, finding)| sum.saturating_add(finding.count)),
        rates: settings.iter().enumerate().filter_map(|(place, setting)| rate(place, setting, &first_cycles)).collect(),
        known: known.then_some(reason),
        seen,
    })
}

fn rate(place: usize, setting: &Setting, first_cycles: &BTreeMap<usize, u32>) -> Option<Rate> {
    let mut cycles: Vec<u32> = setting.runs.iter().filter_map(|run| first_cycles.get(run).copied()).collect();
    cycles.sort_unstable();
    let median = *cycles.get(cycles.len().checked_sub(1)? / 2)?;
    let runs = u32::try_from(cycles.len()).unwrap_or(u32::MAX);
    let of = setting.verdicts();
    Some(Rate {
        setting: place,
        runs,
        of,
        interval: Interval::of_rate(runs, of),
        cycles: [*cycles.first()?, median, *cycles.last()?],
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{sample, settings};
    use super::*;

    /// Titles of the findings of runs; of each finding the title first.
    fn of(runs: &[&[&[&str]]]) -> Vec<Distinct> {
        let results = runs.iter().map(|findings| {
            let mut result = sample::found();
            result.findings = findings.iter().map(|titles| sample::finding(titles)).collect();
            result
        });
        let runs = sample::runs(results);
        distinct(&runs, &settings::of(&runs))
    }

    #[test]
    fn titles_and_alternative_titles_meet() {
        let found = of(&[&[&["a", "x"]], &[&["b", "y"]], &[&["x"]], &[&["c"]]]);
        let told: Vec<_> = found.iter().map(|found| (found.title.as_str(), found.runs)).collect();
        assert_eq!(told, [("a", 2), ("b", 1), ("c", 1)]);
        assert_eq!(found[0].alt_titles, ["x"]);
    }

    #[test]
    fn a_finding_that_meets_two_joins_them() {
        let found = of(&[&[&["a"]], &[&["b"]], &[&["b"]], &[&["c", "a", "b"]], &[&["a"]], &[&["a"]]]);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].title.as_str(), found[0].runs), ("a", 6));
        assert_eq!(found[0].alt_titles, ["b", "c"]);
    }

    #[test]
    fn a_run_counts_once_and_inconclusive_ones_not_at_all() {
        let mut results = vec![sample::found(), sample::found(), sample::clean_like_found(), sample::found()];
        for (result, cycles) in results.iter_mut().zip([&[6, 2][..], &[0], &[], &[9]]) {
            result.findings =
                cycles.iter().map(|cycle| Finding { cycle: *cycle, count: 3, ..sample::finding(&["a"]) }).collect();
        }
        results[3].verdict = crate::results::Verdict::Inconclusive;
        results[3].findings.clear();
        let runs = sample::runs(results);
        let settings = settings::of(&runs);
        let found = distinct(&runs, &settings);
        assert_eq!((found.len(), found[0].runs, found[0].count), (1, 2, 9));
        let rate = &found[0].rates[0];
        assert_eq!((rate.runs, rate.of, rate.cycles), (2, 3, [1, 1, 3]));
        assert_eq!(rate.interval, Interval::of_rate(2, 3));
    }

    #[test]
    fn hangs_come_first_and_what_is_known_last() {
        let mut result = sample::hang_and_splat();
        result.findings.reverse();
        let order = |result| {
            let runs = sample::runs([result]);
            distinct(&runs, &settings::of(&runs)).into_iter().map(|found| found.kind).collect::<Vec<_>>()
        };
        assert_eq!(order(result.clone()), [FindingKind::RemovalStuck, FindingKind::Splat]);
        result.findings[1].known = true;
        assert_eq!(order(result), [FindingKind::Splat, FindingKind::RemovalStuck]);
    }

    proptest! {
        #[test]
        fn each_finding_is_in_one_group_and_no_two_groups_meet(
            titles in prop::collection::vec(prop::collection::vec("[a-f]", 1..4), 0..20),
        ) {
            let results = titles.iter().map(|titles| {
                let mut result = sample::found();
                let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
                result.findings = vec![sample::finding(&titles)];
                result
            });
            let runs = sample::runs(results);
            let found = distinct(&runs, &settings::of(&runs));
            let mut seen: Vec<usize> = found.iter().flat_map(|found| &found.seen).map(|seen| seen.run).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..titles.len()).collect::<Vec<_>>());
            let mut all: Vec<&String> =
                found.iter().flat_map(|found| std::iter::once(&found.title).chain(&found.alt_titles)).collect();
            let before = all.len();
            all.sort();
            all.dedup();
            prop_assert_eq!(all.len(), before);
        }
    }
}
