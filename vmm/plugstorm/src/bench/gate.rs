//! Whether a change is let through, and what is said of each difference.

use serde::Serialize;

use super::compare::{Comparison, Difference, Failed, Finding};
use super::numbers::{at_most, by, percent, quantity};
use super::series::Unit;
use crate::summary::count;
use crate::verdict::{EXIT_CLEAN, EXIT_FOUND, EXIT_MACHINE};

/// What a comparison comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Nothing was found that a gate refuses, or there is no gate.
    Passed,
    /// Something is slower, or larger, by the gate's ratio or more; or gives errors where the base does not.
    Refused,
    /// There are too few boots to tell.
    Inconclusive,
}

/// What a comparison comes to, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// What it comes to.
    pub outcome: Outcome,
    /// Why, in a sentence.
    pub headline: String,
    /// What is refused, a sentence each.
    pub refused: Vec<String>,
    /// Differences that are not refused, and errors: a sentence each.
    pub told: Vec<String>,
    /// Questions that had an answer, that no difference was seen.
    pub not_seen: usize,
    /// Questions of which the boots are too few for any answer.
    pub too_few: usize,
    /// Questions of which a difference as great as the gate's might not have been seen.
    pub blind: usize,
}

impl Verdict {
    /// As `storm`'s: 0 passed, 1 refused, 3 inconclusive.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.outcome {
            Outcome::Passed => EXIT_CLEAN,
            Outcome::Refused => EXIT_FOUND,
            Outcome::Inconclusive => EXIT_MACHINE,
        }
    }
}

/// Judges a comparison by a gate, such as 1.1: what is greater by that ratio or more, to the rank test and the interval, is refused.
/// Without a gate nothing is.
#[must_use]
pub fn judge(comparison: &Comparison, gate: Option<f64>) -> Verdict {
    let judged = || comparison.differences.iter().filter(|of| of.judged);
    let is_refused = |of: &Difference| gate.is_some_and(|gate| refuses(of, gate));
    let sentence = |of: &Difference| format!("{}: {}", place(of), words(of, gate));
    let mut refused: Vec<String> = judged().filter(|of| is_refused(of)).map(sentence).collect();
    let (broken, some): (Vec<&Failed>, Vec<&Failed>) = comparison.failed.iter().partition(|of| is_broken(of));
    let broken: Vec<String> = broken.into_iter().map(failed).collect();
    let is_told =
        |of: &&Difference| matches!(of.finding, Finding::Greater | Finding::Less) && !(of.judged && is_refused(of));
    let mut told: Vec<String> = comparison.differences.iter().filter(is_told).map(sentence).collect();
    // What neither side can measure is no difference.
    told.extend(some.into_iter().filter(|of| of.measured != [0, 0]).map(failed));
    match gate {
        Some(_) => refused.extend(broken),
        None => told.extend(broken),
    }
    let count_of = |finding: Finding| judged().filter(|of| of.finding == finding).count();
    let (not_seen, too_few) = (count_of(Finding::NotSeen), count_of(Finding::TooFew));
    let is_blind = |of: &&Difference| {
        of.finding == Finding::NotSeen && gate.is_some_and(|gate| of.detectable.is_none_or(|least| least > gate))
    };
    let blind = judged().filter(is_blind).count();
    let outcome = match gate {
        Some(_) if !refused.is_empty() => Outcome::Refused,
        Some(_) if too_few > 0 || comparison.asked == 0 || is_dying(comparison) => Outcome::Inconclusive,
        _ => Outcome::Passed,
    };
    let mut verdict = Verdict { outcome, headline: String::new(), refused, told, not_seen, too_few, blind };
    verdict.headline = headline(comparison, gate, &verdict);
    verdict
}

/// By rank test and interval, which the finding is of, and by the least effect that matters.
fn refuses(of: &Difference, gate: f64) -> bool {
    of.finding == Finding::Greater && of.ratio.is_none_or(|ratio| ratio >= gate)
}

/// Whether most boots of the base measure what most of the other side do not any more. An error in few boots is told, and not more.
fn is_broken(of: &Failed) -> bool {
    of.measured[0] > of.failed[0] && of.failed[1] > of.measured[1]
}

/// Whether more boots came to nothing than of the base: what was measured is of those that survived.
fn is_dying(comparison: &Comparison) -> bool {
    comparison.lost[1] > comparison.lost[0]
}

fn headline(comparison: &Comparison, gate: Option<f64>, verdict: &Verdict) -> String {
    let of = count(comparison.asked as u64, "question");
    let [base, other] = comparison.boots;
    let boots = if base == other {
        format!("{} a side", count(base as u64, "boot"))
    } else {
        format!("{base} and {other} boots")
    };
    let needed = comparison.needed.map(|n| format!("; it takes {n} boots a side")).unwrap_or_default();
    match (verdict.outcome, gate) {
        (Outcome::Refused, Some(gate)) => {
            let what = count(verdict.refused.len() as u64, "measure");
            format!("refused: {what} (gate: {}; {of}, {boots})", percent(gate))
        }
        (Outcome::Inconclusive, _) if comparison.asked == 0 => {
            let why = comparison.times_not_judged.as_deref().unwrap_or("the two sides measured nothing in common");
            format!("inconclusive: there is nothing to judge: {why}")
        }
        (Outcome::Inconclusive, _) if verdict.too_few == 0 => {
            let [base, other] = comparison.lost;
            let came = count(other as u64, "boot");
            format!(
                "inconclusive: {came} came to nothing, and of the base {base}; those that were measured are the survivors"
            )
        }
        (Outcome::Inconclusive, _) => format!(
            "inconclusive: {boots} are too few for {} of {of}, however great a difference is{needed}",
            verdict.too_few
        ),
        (_, Some(gate)) => {
            let blind = match verdict.blind {
                0 => String::new(),
                n => format!("; in {n} of them one of {} might not have been seen", percent(gate)),
            };
            format!("passed: nothing is slower or larger by {} ({of}, {boots}){blind}", percent(gate))
        }
        _ => format!("compared: {of}, {boots}, no gate"),
    }
}

/// Of what a difference is, in words: `revoke/rwsem/gap_us=2000/readers=0, p50`.
#[must_use]
pub fn place(of: &Difference) -> String {
    match of.series.unit() {
        Unit::Ns => format!("{}, {}", of.series.name(), of.percentile.name()),
        _ => of.series.name(),
    }
}

/// What is said of a difference.
#[must_use]
pub fn words(of: &Difference, gate: Option<f64>) -> String {
    let values = of.values.map(|value| quantity(value, of.series.unit()));
    let from_to = format!("{} before, {} now", values[0], values[1]);
    let (more, less) = match of.series.unit() {
        Unit::Ns => ("slower", "faster"),
        Unit::Bytes => ("larger", "smaller"),
        Unit::Instructions => ("more", "less"),
    };
    match of.finding {
        Finding::TooFew => {
            let [base, other] = of.boots;
            format!("too few boots to tell ({base} and {other}): {from_to}")
        }
        Finding::NotSeen => {
            let seen = match of.detectable {
                Some(least) => format!("; one of {} would have been seen", at_most(least)),
                None => "; how great one had to be to be seen cannot be told".to_owned(),
            };
            format!("no difference seen{seen}")
        }
        Finding::Greater | Finding::Less => {
            let (word, ratio) = if of.finding == Finding::Greater { (more, of.ratio) } else { (less, of.ratio) };
            let effect = ratio.map_or_else(|| from_to.clone(), |ratio| by(ratio, of.interval, &from_to));
            let stands = match gate {
                _ if !of.judged => ", told and not judged".to_owned(),
                Some(gate) if refuses(of, gate) => ", refused".to_owned(),
                Some(gate) if of.finding == Finding::Greater => format!(", below the gate of {}", percent(gate)),
                _ => String::new(),
            };
            format!("{word} {effect}{stands}")
        }
    }
}

fn failed(of: &Failed) -> String {
    let boots = |side: usize| format!("{} of {}", of.failed[side], of.failed[side] + of.measured[side]);
    let name = of.series.name();
    let stands = if is_broken(of) { "could be measured before, and cannot now" } else { "errors instead of samples" };
    format!("{name}: {stands} (before in {} boots, now in {}): {}", boots(0), boots(1), of.error)
}

#[cfg(test)]
mod tests {
    use plugstorm_observe::statistics::Bootstrap;

    use super::super::compare::Comparison;
    use super::super::model::{LOST, Measurement, Side};
    use super::super::pool::Pool;
    use super::super::simulated;
    use super::*;
    use crate::results::HostKind;

    const DRAWS: Bootstrap = Bootstrap { draws: 300, seed: 1 };

    fn judged(pool: &Pool, gate: Option<f64>) -> Verdict {
        judge(&Comparison::within(pool, DRAWS).unwrap(), gate)
    }

    /// The pool of which one measurement of one side is otherwise.
    fn changed(side: Side, kind: &str, design: &str, change: impl Fn(&mut Measurement)) -> Pool {
        let mut pool = simulated::small();
        let is_of = |of: &&mut Measurement| {
            of.side == side && of.measure.kind == kind && of.measure.design.as_deref() == Some(design)
        };
        pool.measurements.iter_mut().filter(is_of).for_each(change);
        pool
    }

    #[test]
    fn what_is_refused_needs_all_three() {
        let names = |verdict: &Verdict| -> Vec<String> {
            verdict.refused.iter().map(|of| of.split(':').next().unwrap_or_default().to_owned()).collect()
        };
        let by_a_tenth = judged(&simulated::small(), Some(1.1));
        assert_eq!((by_a_tenth.outcome, by_a_tenth.exit_code()), (Outcome::Refused, 1));
        assert_eq!(names(&by_a_tenth).len(), 3, "{by_a_tenth:?}");
        // The memory that has grown by 9 % too.
        assert_eq!(names(&judged(&simulated::small(), Some(1.05))).len(), 4);
        // What cannot be measured any more is refused by any gate.
        assert_eq!(names(&judged(&simulated::small(), Some(9.0))).len(), 1);
        let without = judged(&simulated::small(), None);
        assert_eq!((without.outcome, without.exit_code(), without.refused.len()), (Outcome::Passed, 0, 0));
        assert_eq!(without.told.len(), 4, "{without:?}");
    }

    #[test]
    fn what_got_faster_is_told_and_not_refused() {
        let pool = changed(Side::B, "access", "stack-token", |of| of.samples.iter_mut().for_each(|one| one.value /= 2));
        let verdict = judged(&pool, Some(1.1));
        assert_eq!(verdict.told.iter().filter(|of| of.contains("faster by 50 %")).count(), 3, "{verdict:?}");
        assert!(verdict.refused.iter().all(|of| !of.contains("stack-token")));
    }

    #[test]
    fn a_side_that_only_gives_errors_is_refused_and_a_stray_one_told() {
        let fails = |of: &mut Measurement| {
            of.samples.clear();
            of.error = Some("no memory".into());
        };
        let is_of = |of: &&String| of.starts_with("memory/stack-token");
        let all = judged(&changed(Side::B, "memory", "stack-token", fails), Some(1.1));
        assert_eq!(all.refused.iter().filter(is_of).count(), 1, "{all:?}");
        let once = |of: &mut Measurement| {
            if of.boot == 1 {
                fails(of);
            }
        };
        let one = judged(&changed(Side::B, "memory", "stack-token", once), Some(1.1));
        assert_eq!((one.refused.iter().filter(is_of).count(), one.told.iter().filter(is_of).count()), (0, 1));
        // A base that could not be measured refuses nothing.
        let base = judged(&changed(Side::A, "memory", "stack-token", fails), Some(1.1));
        assert_eq!(base.refused.iter().filter(is_of).count(), 0);
    }

    #[test]
    fn a_stray_error_of_the_base_hides_nothing() {
        let fails = |of: &mut Measurement| {
            of.samples.clear();
            of.error = Some("no memory".into());
        };
        let mut pool = changed(Side::B, "memory", "stack-token", fails);
        let is_first = |of: &&mut Measurement| {
            of.side == Side::A && of.measure.kind == "memory" && of.measure.design.as_deref() == Some("stack-token")
        };
        pool.measurements.iter_mut().find(is_first).map(fails).unwrap();
        let verdict = judged(&pool, Some(1.1));
        assert!(verdict.refused.iter().any(|of| of.starts_with("memory/stack-token")), "{verdict:?}");
    }

    #[test]
    fn the_survivors_of_a_kernel_that_dies_are_no_pass() {
        let lost = |side: Side| Measurement {
            boot: 99,
            side,
            measure: simulated::measure(LOST, None, &[]),
            samples: Vec::new(),
            notes: [].into(),
            error: Some("it panicked".into()),
        };
        let mut pool = simulated::World::default().pool(10);
        assert_eq!(judged(&pool, Some(1.1)).outcome, Outcome::Passed);
        pool.lost.push(lost(Side::B));
        let verdict = judged(&pool, Some(1.1));
        assert_eq!((verdict.outcome, verdict.exit_code()), (Outcome::Inconclusive, 3));
        assert!(verdict.headline.starts_with("inconclusive: 1 boot came to nothing, and of the base 0"), "{verdict:?}");
        assert_eq!(judged(&pool, None).outcome, Outcome::Passed, "without a gate it is only told");
        pool.lost.push(lost(Side::A));
        assert_eq!(judged(&pool, Some(1.1)).outcome, Outcome::Passed, "the base dies as often");
    }

    #[test]
    fn too_few_boots_are_inconclusive_and_say_so() {
        let mut pool = simulated::small();
        pool.measurements.retain(|of| of.boot < 8 && of.measure.design.as_deref() == Some("stack-token"));
        let verdict = judged(&pool, Some(1.1));
        assert_eq!((verdict.outcome, verdict.exit_code()), (Outcome::Inconclusive, 3));
        assert_eq!(
            verdict.headline,
            "inconclusive: 4 boots a side are too few for 14 of 14 questions, however great a difference is; it takes 6 boots a side"
        );
        pool.measurements.clear();
        let nothing = judged(&pool, Some(1.1));
        assert_eq!(nothing.outcome, Outcome::Inconclusive);
        assert!(nothing.headline.ends_with("the two sides measured nothing in common"), "{}", nothing.headline);
    }

    #[test]
    fn between_emulated_runs_counts_alone_are_judged() {
        let (base, mut other) = (simulated::nested(), simulated::nested());
        for of in &mut other.measurements {
            let slower = if of.measure.kind == "instructions" { 2 } else { 5 };
            of.samples.iter_mut().for_each(|sample| sample.value *= slower);
        }
        let comparison = Comparison::between(&base, &other, DRAWS);
        let verdict = judge(&comparison, Some(1.1));
        assert!(
            verdict.refused.iter().all(|of| of.starts_with("instructions/") || of.starts_with("memory/")),
            "{verdict:?}"
        );
        assert_eq!(verdict.refused.len(), 6);
        // Times are told, and that they are not judged.
        assert!(verdict.told.iter().any(|of| of.starts_with("access/") && of.ends_with("told and not judged")));
        assert!(comparison.times_not_judged.is_some());
        let mut mixed = base.clone();
        mixed.header.host.kind = HostKind::Kvm;
        assert!(Comparison::between(&mixed, &other, DRAWS).times_not_judged.is_some());
        assert!(Comparison::between(&mixed, &mixed, DRAWS).times_not_judged.is_none());
    }

    #[test]
    fn what_measuring_costs_is_told_and_not_judged() {
        let mut pool = simulated::small();
        let slower = pool.measurements.iter_mut().filter(|of| of.side == Side::B && of.measure.kind == "clock");
        slower.flat_map(|of| &mut of.samples).for_each(|sample| sample.value *= 2);
        let verdict = judged(&pool, Some(1.1));
        assert!(verdict.refused.iter().all(|of| !of.starts_with("clock")));
        let told = verdict.told.iter().find(|of| of.starts_with("clock, p50: slower by a factor of ")).unwrap();
        assert!(told.ends_with("told and not judged"), "{told}");
    }
}
