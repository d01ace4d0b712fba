//! Comparisons drawn from a large pool of boots: how often is the gate wrong?
//!
//! Of two sets of boots of one side it must refuse nothing (A/A); of two sides that are known to differ it must (A/B).

use std::collections::{BTreeMap, BTreeSet};

use plugstorm_observe::statistics::Bootstrap;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::compare::{Comparison, Difference, Finding};
use super::gate::{Outcome, judge, place};
use super::model::Side;
use super::pool::Pool;

/// What is drawn from a pool, and how often.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Draws {
    /// Comparisons.
    pub comparisons: u32,
    /// Boots of each side of a comparison.
    pub boots: usize,
    /// Of the draws.
    pub seed: u64,
    /// What is refused.
    pub gate: f64,
    /// Of the intervals.
    pub bootstrap: Bootstrap,
}

/// What the gate said of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Comparisons.
    pub comparisons: u32,
    /// It refused.
    pub refused: u32,
    /// It could not tell.
    pub inconclusive: u32,
    /// How often each thing was refused, by the name of what was measured.
    pub by_name: BTreeMap<String, u32>,
    /// How often a difference was told and not refused: smaller than the gate's, or for the better.
    pub told: BTreeMap<String, u32>,
}

impl Draws {
    /// Of two disjoint sets of one side's boots, drawn anew each time. None if the side has too few boots.
    #[must_use]
    pub fn same(&self, pool: &Pool, side: Side) -> Option<Tally> {
        let all = numbers(pool, side);
        self.tally(pool, |random| {
            let mut all = all.clone();
            all.shuffle(random);
            let (base, rest) = all.split_at_checked(self.boots)?;
            Some([base.to_vec(), rest.get(..self.boots)?.to_vec()])
        })
    }

    /// Of boots of both sides. None if one has too few.
    #[must_use]
    pub fn both(&self, pool: &Pool) -> Option<Tally> {
        let all = [Side::A, Side::B].map(|side| numbers(pool, side));
        self.tally(pool, |random| {
            let drawn = all.clone().map(|mut all| {
                all.shuffle(random);
                all.truncate(self.boots);
                all
            });
            drawn.iter().all(|drawn| drawn.len() == self.boots).then_some(drawn)
        })
    }

    fn tally(&self, pool: &Pool, draw: impl Fn(&mut ChaCha8Rng) -> Option<[Vec<u32>; 2]>) -> Option<Tally> {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        let mut tally = Tally::default();
        for _ in 0..self.comparisons {
            let drawn = relabelled(pool, draw(&mut random)?);
            let comparison = Comparison::within(&drawn, self.bootstrap)?;
            let verdict = judge(&comparison, Some(self.gate));
            tally.comparisons += 1;
            tally.refused += u32::from(verdict.outcome == Outcome::Refused);
            tally.inconclusive += u32::from(verdict.outcome == Outcome::Inconclusive);
            let name_of =
                |sentence: &String| sentence.split_once(": ").map_or(sentence.clone(), |(name, _)| name.to_owned());
            let refused: BTreeSet<String> = verdict.refused.iter().map(name_of).collect();
            let is_seen = |of: &&Difference| of.judged && matches!(of.finding, Finding::Greater | Finding::Less);
            for name in comparison.differences.iter().filter(is_seen).map(place).filter(|name| !refused.contains(name))
            {
                *tally.told.entry(name).or_default() += 1;
            }
            for name in refused {
                *tally.by_name.entry(name).or_default() += 1;
            }
        }
        Some(tally)
    }
}

impl Tally {
    /// `refused 1 of 50, inconclusive 0; refused revoke/…, p50: 1; told access/…, p50: 3`.
    #[must_use]
    pub fn words(&self) -> String {
        let names = |word: &str, of: &BTreeMap<String, u32>| -> String {
            of.iter().map(|(name, times)| format!("; {word} {name}: {times}")).collect()
        };
        let (refused, told) = (names("refused", &self.by_name), names("told", &self.told));
        format!("refused {} of {}, inconclusive {}{refused}{told}", self.refused, self.comparisons, self.inconclusive)
    }
}

fn numbers(pool: &Pool, side: Side) -> Vec<u32> {
    let of_side = pool.measurements.iter().filter(|of| of.side == side);
    of_side.map(|of| of.boot).collect::<BTreeSet<u32>>().into_iter().collect()
}

/// These boots alone, the first set called `a` and the second `b`.
fn relabelled(pool: &Pool, [base, other]: [Vec<u32>; 2]) -> Pool {
    let sides: BTreeMap<u32, Side> =
        base.iter().map(|boot| (*boot, Side::A)).chain(other.iter().map(|boot| (*boot, Side::B))).collect();
    let mut header = pool.header.clone();
    if let Some(facts) = header.sides.values().next().cloned() {
        header.sides.entry(Side::A).or_insert_with(|| facts.clone());
        header.sides.entry(Side::B).or_insert(facts);
    }
    let of_drawn = pool.measurements.iter().filter_map(|of| {
        let mut measurement = of.clone();
        measurement.side = *sides.get(&of.boot)?;
        Some(measurement)
    });
    Pool { header, measurements: of_drawn.collect(), lost: Vec::new(), left_out: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::super::gate::words;
    use super::super::simulated::World;
    use super::*;

    const DRAWS: Draws =
        Draws { comparisons: 50, boots: 10, seed: 7, gate: 1.1, bootstrap: Bootstrap { draws: 400, seed: 1 } };

    #[test]
    fn fifty_comparisons_of_the_same_raise_no_alarm() {
        let pool = World::default().pool(60);
        for side in [Side::A, Side::B] {
            let tally = DRAWS.same(&pool, side).unwrap();
            assert_eq!((tally.comparisons, tally.refused, tally.inconclusive), (50, 0, 0), "{}", tally.words());
        }
    }

    #[test]
    fn a_fifth_slower_is_caught() {
        for planted in ["stack-token", "rwsem"] {
            let pool = World { planted: Some((planted, 1.2)), ..World::default() }.pool(60);
            let tally = Draws { comparisons: 20, ..DRAWS }.both(&pool).unwrap();
            assert!(tally.refused >= 19, "{planted}: {}", tally.words());
            // Nothing else is blamed.
            assert!(tally.by_name.keys().all(|name| name.contains(planted)), "{}", tally.words());
        }
    }

    #[test]
    fn a_twentieth_slower_is_told_and_not_refused() {
        let pool = World { planted: Some(("rwsem", 1.05)), ..World::default() }.pool(60);
        let tally = Draws { comparisons: 20, ..DRAWS }.both(&pool).unwrap();
        assert_eq!((tally.refused, tally.inconclusive), (0, 0), "{}", tally.words());
        assert!(tally.told.keys().any(|name| name.starts_with("access/rwsem/")), "{}", tally.words());
        // All sixty boots see it, and say so.
        let comparison = Comparison::within(&pool, DRAWS.bootstrap).unwrap();
        let of_rwsem = |of: &&super::super::compare::Difference| {
            of.series.measure.design.as_deref() == Some("rwsem") && of.series.measure.kind == "access"
        };
        let difference = comparison.differences.iter().find(of_rwsem).unwrap();
        let said = words(difference, Some(1.1));
        assert!(said.starts_with("slower by ") && said.ends_with("below the gate of 10 %"), "{said}");
        let ratio = difference.ratio.unwrap();
        assert!((1.03..1.07).contains(&ratio), "{ratio}");
        let interval = difference.interval.unwrap();
        assert!(interval.low > 1.0 && interval.high < 1.1, "{interval:?}");
    }

    #[test]
    fn too_few_boots_are_no_comparison() {
        let pool = World::default().pool(12);
        assert!(DRAWS.same(&pool, Side::A).is_none() && DRAWS.both(&pool).is_some());
        let few = Draws { boots: 3, comparisons: 5, ..DRAWS }.both(&pool).unwrap();
        assert_eq!((few.refused, few.inconclusive), (0, 5));
    }
}
