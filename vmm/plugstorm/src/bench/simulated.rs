//! Pools of boots that nobody booted, for tests.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::model::{BOOT, Header, Measure, Measurement, Sample, Side, SideFacts, VERSION};
use super::pool::Pool;
use super::results::{Options, Results};
use crate::results::{HostFacts, HostKind};

/// A distribution of samples.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// Its logarithms are normal, by a twentieth or so.
    LogNormal { median: f64 },
    /// Two of them.
    Bimodal { low: f64, high: f64, slow_share: f64 },
}

pub(super) fn draw(seed: u64, n: usize, shape: Shape) -> Vec<f64> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| one(&mut random, shape)).collect()
}

fn one(random: &mut ChaCha8Rng, shape: Shape) -> f64 {
    let median = match shape {
        Shape::LogNormal { median } => median,
        Shape::Bimodal { low, high, slow_share } => {
            if random.random::<f64>() < slow_share {
                high
            } else {
                low
            }
        }
    };
    median * (0.05 * normal(random)).exp()
}

fn normal(random: &mut ChaCha8Rng) -> f64 {
    // Box and Muller's.
    let (one, other): (f64, f64) = (random.random(), random.random());
    (-2.0 * (1.0 - one).ln()).sqrt() * (std::f64::consts::TAU * other).cos()
}

pub(super) fn header(kind: HostKind, sides: &[Side]) -> Header {
    let facts = |side: Side| SideFacts {
        kernel: if side == Side::A { "timing" } else { "patched" }.into(),
        modules: None,
        made_of: side.letter().to_string(),
        release: "6.18.2-plugstorm".into(),
        hz: 250,
        preemption: Some("voluntary".into()),
        cpus: 2,
    };
    Header {
        version: VERSION,
        plugstorm: "0.1.0".into(),
        started_unix_s: 1_795_443_300,
        seed: 1,
        plan: "all".into(),
        host: HostFacts { kind, loop_rounds_per_second: Some(2.5e9), exits_per_second: Some(4e5) },
        sides: sides.iter().map(|side| (*side, facts(*side))).collect(),
    }
}

pub(super) fn measure(kind: &str, design: Option<&str>, settings: &[(&str, &str)]) -> Measure {
    Measure {
        kind: kind.into(),
        design: design.map(str::to_owned),
        settings: settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
    }
}

pub(super) fn text(pool: &Pool) -> Vec<u8> {
    let mut text = serde_json::to_vec(&pool.header).unwrap();
    text.push(b'\n');
    for measurement in &pool.measurements {
        text.extend(serde_json::to_vec(measurement).unwrap());
        text.push(b'\n');
    }
    text
}

/// A boot under way.
struct Booted {
    boot: u32,
    side: Side,
    random: ChaCha8Rng,
    measurements: Vec<Measurement>,
}

impl Booted {
    fn new(boot: u32, side: Side, seed: u64) -> Self {
        let random = ChaCha8Rng::seed_from_u64(seed ^ (u64::from(boot) << 20));
        Self { boot, side, random, measurements: Vec::new() }
    }

    fn add(&mut self, measure: Measure, samples: Vec<Sample>) {
        let (boot, side) = (self.boot, self.side);
        self.measurements.push(Measurement { boot, side, measure, samples, notes: BTreeMap::new(), error: None });
    }

    fn fails(&mut self, measure: Measure, error: &str) {
        self.add(measure, Vec::new());
        self.measurements.last_mut().unwrap().error = Some(error.into());
    }

    /// `threads` samples a round, each of `loops` operations.
    fn times(&mut self, measure: Measure, shape: Shape, rounds: u32, threads: u32, loops: u64) {
        let mut samples = Vec::new();
        for round in 0..rounds {
            for thread in 0..threads {
                let value = (one(&mut self.random, shape) * loops as f64).round() as u64;
                samples.push(Sample { round, thread, value, count: loops });
            }
        }
        self.add(measure, samples);
    }

    fn end(mut self) -> Vec<Measurement> {
        self.times(measure(BOOT, None, &[]), Shape::LogNormal { median: 9e8 }, 1, 1, 1);
        self.measurements
    }
}

fn interleaved(boots: u32, of: impl Fn(u32, Side) -> Vec<Measurement>) -> Vec<Measurement> {
    (0..2 * boots).flat_map(|boot| of(boot, if boot % 2 == 0 { Side::A } else { Side::B })).collect()
}

/// Eight boots of each side, with everything that there is some of. On the second side `rwsem` has grown, and cannot be measured in
/// one way; `get-put` is a fifth slower to use.
pub(super) fn small() -> Pool {
    let measurements = interleaved(8, |boot, side| {
        let mut booted = Booted::new(boot, side, 11);
        let is_b = side == Side::B;
        for (design, pair, revoke, bytes) in
            [("stack-token", 5.0, 20e6, 272), ("get-put", 31.0, 20e6, 312), ("rwsem", 14.0, 1.4e3, 88)]
        {
            let slower = if is_b && design == "get-put" { 1.2 } else { 1.0 };
            let some = |kind: &str, settings: &[(&str, &str)]| measure(kind, Some(design), settings);
            for threads in [1, 2] {
                let settings = [
                    ("threads", &*threads.to_string()),
                    ("objects", "1"),
                    ("context", "process"),
                    ("loops", "10000"),
                    ("rounds", "20"),
                ];
                let shared = if design == "stack-token" { 1.0 } else { f64::from(threads) * 1.5 };
                let shape = Shape::LogNormal { median: pair * slower * shared };
                booted.times(some("access", &settings), shape, 20, threads, 10_000);
            }
            let atomic =
                [("threads", "1"), ("objects", "1"), ("context", "softirq"), ("loops", "10000"), ("rounds", "20")];
            match design {
                "rwsem" => booted.fails(some("access", &atomic), "the design is not atomic"),
                _ => booted.times(some("access", &atomic), Shape::LogNormal { median: pair }, 20, 1, 10_000),
            }
            for (readers, slow_share) in [("0", 0.3), ("2", 0.9)] {
                let settings = [("readers", readers), ("hold_us", "0"), ("gap_us", "2000"), ("rounds", "120")];
                let shape = match design {
                    "rwsem" => Shape::LogNormal { median: revoke },
                    _ => Shape::Bimodal { low: 9e3, high: revoke, slow_share },
                };
                if is_b && design == "rwsem" && readers == "2" {
                    booted.fails(some("revoke", &settings), "the revoke did not return in 10 s");
                } else {
                    booted.times(some("revoke", &settings), shape, 120, 1, 1);
                }
            }
            booted.times(
                some("allocate", &[("objects", "16"), ("rounds", "10")]),
                Shape::LogNormal { median: 700.0 },
                10,
                4,
                16,
            );
            let bytes = if is_b && design == "rwsem" { bytes + 8 } else { bytes };
            booted.add(
                some("memory", &[("objects", "256")]),
                vec![Sample { round: 0, thread: 0, value: bytes * 256, count: 256 }],
            );
            booted.add(
                some("instructions", &[("operation", "pair"), ("rounds", "5")]),
                vec![Sample { round: 0, thread: 0, value: 41, count: 1 }; 5],
            );
            booted.measurements.last_mut().unwrap().notes.insert("locked".into(), "2".into());
        }
        booted.times(measure("clock", None, &[("loops", "1000")]), Shape::LogNormal { median: 24.0 }, 20, 1, 1000);
        let nothing = [("threads", "1"), ("context", "process"), ("loops", "10000")];
        booted.times(measure("nothing", None, &nothing), Shape::LogNormal { median: 1.2 }, 20, 1, 10_000);
        let ours = [("primitive", "srcu"), ("threads", "1"), ("rounds", "20"), ("loops", "10000")];
        booted.times(measure("primitive", None, &ours), Shape::LogNormal { median: 4.7 }, 20, 1, 10_000);
        let theirs = [("scale_type", "srcu"), ("nreaders", "1"), ("nruns", "20"), ("loops", "10000")];
        booted.times(measure("refscale", None, &theirs), Shape::LogNormal { median: 4.6 }, 20, 1, 10_000);
        booted.end()
    });
    Pool { header: header(HostKind::Kvm, &[Side::A, Side::B]), measurements, lost: Vec::new(), left_out: Vec::new() }
}

/// The same, where guests ran under software emulation, of one side.
pub(super) fn nested() -> Pool {
    let mut pool = small();
    pool.header = header(HostKind::Nested, &[Side::A]);
    pool.measurements.retain(|of| of.side == Side::A);
    pool
}

/// One side whose boots differ by a factor that all of a boot shares; `rwsem` takes so much of what `stack-token` does.
pub(super) fn scaled_boots(boots: u32, ratio: f64) -> Pool {
    let measurements = (0..boots).flat_map(|boot| {
        let mut booted = Booted::new(boot, Side::A, 5);
        let factor = 1000.0 * f64::from(boot + 1);
        for (design, of) in [("stack-token", factor), ("rwsem", factor * ratio)] {
            let sample = Sample { round: 0, thread: 0, value: of as u64, count: 1 };
            booted.add(measure("revoke", Some(design), &[("readers", "0")]), vec![sample; 20]);
        }
        booted.end()
    });
    Pool {
        header: header(HostKind::Kvm, &[Side::A]),
        measurements: measurements.collect(),
        lost: Vec::new(),
        left_out: Vec::new(),
    }
}

/// Boots that differ from each other, as boots do: by a few percent in all that a boot measures, by a few in each measure, and in
/// how often the slow mode comes.
#[derive(Clone, Copy)]
pub(super) struct World {
    pub(super) seed: u64,
    /// The design that is so much slower on side `b`.
    pub(super) planted: Option<(&'static str, f64)>,
}

impl Default for World {
    fn default() -> Self {
        Self { seed: 3, planted: None }
    }
}

impl World {
    /// So many boots of each side.
    pub(super) fn pool(self, boots: u32) -> Pool {
        let measurements = interleaved(boots, |boot, side| {
            let mut booted = Booted::new(boot, side, self.seed);
            let whole = (0.02 * normal(&mut booted.random)).exp();
            for (design, pair, low) in
                [("stack-token", 5.0, 9e3), ("get-put", 31.0, 12e3), ("rwsem", 14.0, 1.4e3), ("in-flight", 16.0, 2e3)]
            {
                let slower = match self.planted {
                    Some((planted, ratio)) if planted == design && side == Side::B => ratio,
                    _ => 1.0,
                };
                let mut own = || (0.02 * normal(&mut booted.random)).exp() * whole * slower;
                let (pair, revoke, share) = (pair * own(), low * own(), 0.15 + 0.1 * own() / slower);
                let settings = [("threads", "1"), ("objects", "1"), ("context", "process")];
                booted.times(
                    measure("access", Some(design), &settings),
                    Shape::LogNormal { median: pair },
                    20,
                    1,
                    10_000,
                );
                let shape = match design {
                    "rwsem" | "in-flight" => Shape::LogNormal { median: revoke },
                    _ => Shape::Bimodal { low: revoke, high: 2e7 * slower, slow_share: share },
                };
                for readers in ["0", "2"] {
                    booted.times(measure("revoke", Some(design), &[("readers", readers)]), shape, 100, 1, 1);
                }
            }
            booted.end()
        });
        Pool {
            header: header(HostKind::Kvm, &[Side::A, Side::B]),
            measurements,
            lost: Vec::new(),
            left_out: Vec::new(),
        }
    }
}

/// Of a pool, with a gate of a tenth.
pub(super) fn results(pool: Pool) -> Results {
    Results::of(pool, None, &Options { gate: Some(1.1), ..Options::default() })
}
