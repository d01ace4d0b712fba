//! What stands in for a guest where nothing is measured.

use std::collections::BTreeMap;

use plugstorm::bench::model::Sample;

use crate::Measured;

/// What an operation is said to take.
const NS_EACH: u64 = 10;
/// The most samples that the module gives of a measure (`guest/module/bench.h`).
const MOST_SAMPLES: u64 = 4000;

/// Answers every request that the module would understand, at once: when benchmarks are only tried out (`cargo test --benches`), a
/// boot would be all that takes time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rehearsal;

impl Measured for Rehearsal {
    fn measure(&mut self, request: &str) -> Result<Vec<Sample>, String> {
        let words =
            request.split(' ').map(|word| word.split_once('=').ok_or_else(|| format!("`{word}` is no KEY=VALUE")));
        let words = words.collect::<Result<BTreeMap<_, _>, _>>()?;
        let word = |key: &str| words.get(key).copied().ok_or_else(|| format!("`{request}` has no {key}"));
        let number = |key: &str| {
            let number = word(key)?;
            number.parse::<u64>().map_err(|error| format!("{key}={number} is no number: {error}"))
        };
        let measure = word("measure")?;
        let (threads, count) = match measure {
            "access" | "nothing" => (number("threads")?, number("loops")?),
            "revoke" => (1, 1),
            other => return Err(format!("there is no measure={other} to rehearse")),
        };
        if measure != "nothing" {
            word("design")?;
        }
        let rounds = number("rounds")?;
        if rounds.saturating_mul(threads) > MOST_SAMPLES || rounds == 0 || count == 0 {
            return Err(format!("`{request}` is out of bounds"));
        }
        let sample = |round, thread| Sample { round, thread, value: count.saturating_mul(NS_EACH), count };
        let threads = u32::try_from(threads).unwrap_or(u32::MAX);
        let rounds = u32::try_from(rounds).unwrap_or(u32::MAX);
        Ok((0..rounds).flat_map(|round| (0..threads).map(move |thread| sample(round, thread))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_sample_for_each_round_and_thread() {
        let request = "measure=access design=rwsem threads=2 objects=1 context=process rounds=3 loops=5";
        let samples = Rehearsal.measure(request).unwrap();
        let places: Vec<_> = samples.iter().map(|sample| (sample.round, sample.thread)).collect();
        assert_eq!(places, [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]);
        assert!(samples.iter().all(|sample| (sample.value, sample.count) == (50, 5)));
    }

    #[test]
    fn what_the_module_would_refuse_is_refused() {
        for request in [
            "",
            "measure",
            "measure=magic rounds=1",
            "measure=access threads=1 rounds=1 loops=1",
            "measure=access design=rwsem threads=1 loops=1",
            "measure=access design=rwsem threads=1 rounds=x loops=1",
            "measure=access design=rwsem threads=1000 rounds=5 loops=1",
            "measure=access design=rwsem threads=1 rounds=1 loops=0",
            "measure=revoke rounds=1",
        ] {
            assert!(Rehearsal.measure(request).is_err(), "{request}");
        }
    }
}
