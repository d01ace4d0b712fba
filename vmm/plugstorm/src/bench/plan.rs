//! What is measured in each boot, and in which order: decided by one seed before anything runs.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::model::{Measure, Side};
use super::scale::counterpart;
use super::surprise::SURPRISE;
use crate::scenario::Design;
use crate::snapshots::digest;

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Each cost of each design: for the table.
    Full,
    /// What a change is most likely to move, few rounds of it: for a gate.
    Quick,
}

/// What users may leave out, in the order of the table. What the measurement itself costs (`nothing`, `clock`) always goes with it.
pub const KINDS: [&str; 9] =
    ["access", "revoke", "sleeper", "revoke-many", SURPRISE, "allocate", "memory", "instructions", CROSS_CHECK];
/// Those of [`Size::Quick`].
pub const QUICK_KINDS: [&str; 4] = ["access", "revoke", "allocate", "instructions"];
/// What the kernel's own tests measure too, by our module and by them.
const CROSS_CHECK: &str = "cross-check";

/// What is to be measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// In the order of the module's table.
    pub designs: Vec<Design>,
    /// Of [`KINDS`].
    pub kinds: Vec<String>,
    /// How much of it.
    pub size: Size,
    /// vCPUs of the guest.
    pub cpus: u32,
}

impl Wanted {
    /// The measures of a boot, in the order of the table.
    #[must_use]
    pub fn measures(&self) -> Vec<Measure> {
        let mut list = List { wanted: self, measures: Vec::new() };
        list.costs_of_measuring();
        for design in &self.designs {
            list.access(*design);
            list.revoke(*design);
            list.life(*design);
        }
        if list.is_full() {
            list.cross_check();
        }
        list.measures
    }

    /// A digest of them.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut parts = digest::Parts::default();
        // What some measures depend on and do not say.
        parts.part(&self.cpus.to_le_bytes());
        self.designs.iter().for_each(|design| parts.part(design.name().as_bytes()));
        for measure in self.measures() {
            parts.part(measure.kind.as_bytes());
            parts.part(measure.design.unwrap_or_default().as_bytes());
            for (key, value) in measure.settings {
                parts.part(key.as_bytes());
                parts.part(value.as_bytes());
            }
        }
        parts.digest()
    }
}

/// In which order a boot measures: another one in each, so that what one measure leaves behind for the next is no part of the
/// difference between two. A boot's order does not depend on how many boots there are, nor on its side.
#[must_use]
pub fn order(mut measures: Vec<Measure>, seed: u64, boot: u32) -> Vec<Measure> {
    measures.shuffle(&mut stream(seed, u64::from(boot) + 1));
    measures
}

/// Of which side each boot is. Two sides take turns by pairs, and which of a pair is first is drawn: what the host does meanwhile
/// meets both alike.
#[must_use]
pub fn boots(sides: &[Side], each: u32, seed: u64) -> Vec<Side> {
    let mut random = stream(seed, 0);
    let mut order = Vec::new();
    for _ in 0..each {
        let mut round = sides.to_vec();
        round.shuffle(&mut random);
        order.extend(round);
    }
    order
}

fn stream(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(stream);
    random
}

struct List<'a> {
    wanted: &'a Wanted,
    measures: Vec<Measure>,
}

impl List<'_> {
    fn has(&self, kind: &str) -> bool {
        self.wanted.kinds.iter().any(|wanted| wanted == kind)
    }

    fn is_full(&self) -> bool {
        self.wanted.size == Size::Full
    }

    /// Rounds of something that takes a whole one of: fewer where it is only to be gated.
    fn rounds(&self, full: u32) -> String {
        match self.wanted.size {
            Size::Full => full,
            Size::Quick => full / 2,
        }
        .to_string()
    }

    fn add(&mut self, kind: &str, design: Option<Design>, settings: &[(&str, &str)]) {
        self.measures.push(Measure {
            kind: kind.to_owned(),
            design: design.map(|design| design.name().to_owned()),
            settings: settings.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect(),
        });
    }

    /// 1, twice as many and so on, and all; for a gate the first and the last.
    fn threads(&self) -> Vec<String> {
        let all = self.wanted.cpus;
        let fewer = (0..u32::BITS).map(|power| 1 << power).take_while(|threads| *threads < all);
        let fewer: Vec<u32> = if self.is_full() { fewer.collect() } else { fewer.take(1).collect() };
        fewer.into_iter().chain([all]).map(|threads| threads.to_string()).collect()
    }

    fn costs_of_measuring(&mut self) {
        self.add("clock", None, &[("rounds", P99_ROUNDS), ("loops", "1000")]);
        if self.has("instructions") && self.wanted.cpus > 1 {
            self.add("instructions", None, &[("operation", "nothing"), ("rounds", "5")]);
        }
        if self.has("access") {
            for threads in self.threads() {
                let settings = [("threads", threads.as_str()), ("context", "process")];
                self.add("nothing", None, &[&settings[..], &LONG[..]].concat());
            }
        }
    }

    fn access(&mut self, design: Design) {
        if !self.has("access") {
            return;
        }
        let (all, is_full) = (self.wanted.cpus.to_string(), self.is_full());
        let threads = self.threads();
        let mut one = |threads: &str, objects: &str, context: &str| {
            let settings = [("threads", threads), ("objects", objects), ("context", context)];
            self.add("access", Some(design), &[&settings[..], &LONG[..]].concat());
        };
        for threads in &threads {
            one(threads, "1", "process");
        }
        if !is_full {
            return;
        }
        if all != "1" {
            one(&all, "16", "process");
        }
        for context in ["preempt-off", "softirq"] {
            one("1", "1", context);
        }
    }

    fn revoke(&mut self, design: Design) {
        let (all, is_full) = (self.wanted.cpus.to_string(), self.is_full());
        if self.has("revoke") {
            let under_readers = self.rounds(40);
            let mut one = |readers: &str, hold_us: &str, gap_us: &str| {
                let rounds = if readers == "0" { P99_ROUNDS } else { &under_readers };
                let settings = [("readers", readers), ("hold_us", hold_us), ("gap_us", gap_us), ("rounds", rounds)];
                self.add("revoke", Some(design), &settings);
            };
            // On either side of srcutree.exp_holdoff, 25 µs: a grace period after that long a rest is expedited.
            let bears_readers = bears_readers(design);
            one("0", "0", "2000");
            if bears_readers {
                one(&all, "0", "2000");
            }
            if is_full {
                one("0", "0", "0");
            }
            if is_full && bears_readers {
                one(&all, "1000", "2000");
            }
        }
        if !is_full {
            return;
        }
        let few = self.rounds(10);
        if self.has("sleeper") {
            self.add("sleeper", Some(design), &[("sleep_us", "50000"), ("rounds", &few)]);
        }
        if self.has("revoke-many") {
            for batched in ["no", "yes"] {
                self.add("revoke-many", Some(design), &[("resources", "16"), ("batched", batched), ("rounds", &few)]);
            }
        }
    }

    /// A removal, allocation and memory, and instructions.
    fn life(&mut self, design: Design) {
        let few = self.rounds(10);
        if self.has(SURPRISE) && self.is_full() && bears_readers(design) {
            self.add(SURPRISE, Some(design), &[("rounds", &few)]);
        }
        if self.has("allocate") {
            self.add("allocate", Some(design), &[("objects", "16"), ("rounds", &few)]);
        }
        if self.has("memory") && self.is_full() {
            self.add("memory", Some(design), &[("objects", "256")]);
        }
        // With one CPU the kernel takes the lock prefixes out (alternatives_smp_switch of arch/x86/kernel/alternative.c).
        if self.has("instructions") && self.wanted.cpus > 1 {
            for operation in ["pair", "init", "revoke"] {
                if !(operation == "init" && init_waits(design) || operation == "revoke" && revoke_waits(design)) {
                    self.add("instructions", Some(design), &[("operation", operation), ("rounds", "5")]);
                }
            }
        }
    }

    /// What the kernel's own tests measure too, by both.
    fn cross_check(&mut self) {
        if !self.has(CROSS_CHECK) {
            return;
        }
        let (rounds, all) = (P99_ROUNDS, self.wanted.cpus.to_string());
        let first = self.measures.len();
        for primitive in ["srcu", "rwsem", "refcnt", "rwlock", "percpuinc"] {
            let settings = [("primitive", primitive), ("threads", "1")];
            self.add("primitive", None, &[&settings[..], &LONGER[..]].concat());
        }
        for (readers, gap_us, expedited) in
            [("0", "0", "no"), ("0", "100", "no"), ("0", "0", "yes"), (all.as_str(), "0", "no")]
        {
            let settings = [("readers", readers), ("gap_us", gap_us), ("expedited", expedited), ("rounds", rounds)];
            self.add("grace-period", None, &settings);
        }
        let theirs: Vec<Measure> = self.measures.iter().skip(first).filter_map(counterpart).collect();
        self.measures.extend(theirs);
    }
}

/// Whether the object may be revoked, or its device removed, under readers: not where they use what the revoke has freed (defects D and G, and the control), which
/// is a finding, and no time.
#[must_use]
pub fn bears_readers(design: Design) -> bool {
    !matches!(design, Design::Unprotected | Design::ByValueCopy | Design::GetPutEmbedded)
}

/// Whether allocation waits for a grace period (defect C). Instructions are counted with interrupts off, and a wait has no result.
fn init_waits(design: Design) -> bool {
    design == Design::SharedHandle
}

/// Whether the revoke waits, for a grace period or for anything that others must do.
fn revoke_waits(design: Design) -> bool {
    !matches!(design, Design::Unprotected | Design::Rwsem | Design::GlobalLock)
}

/// Rounds so many that a boot has a p99 of its own. rcuscale makes as many (`MIN_MEAS` of kernel/rcu/rcuscale.c).
const P99_ROUNDS: &str = "101";
/// Rounds of pairs, and pairs between two readings of the clock: a millisecond or so on hardware, and in a nested guest several ticks,
/// which take a millisecond each there, so that each round has its share of them.
const LONG: [(&str, &str); 2] = [("rounds", "31"), ("loops", "100000")];
/// The same of what takes some nanoseconds, and is compared with another's: the threads that refscale wakes at a round's begin share a nested
/// machine's one CPU with its reader.
const LONGER: [(&str, &str); 2] = [("rounds", "31"), ("loops", "1000000")];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::request::request;
    use super::super::scale::is_of_the_kernel;
    use super::*;

    fn wanted(size: Size) -> Wanted {
        Wanted { designs: Design::ALL.to_vec(), kinds: KINDS.map(str::to_owned).to_vec(), size, cpus: 2 }
    }

    #[test]
    fn each_measure_has_a_name_of_its_own_and_a_request() {
        for size in [Size::Full, Size::Quick] {
            let measures = wanted(size).measures();
            let names: BTreeSet<String> = measures.iter().map(Measure::name).collect();
            assert_eq!(names.len(), measures.len());
            for measure in &measures {
                assert!(request(measure).is_ok() || is_of_the_kernel(measure), "{}", measure.name());
            }
        }
        assert!(wanted(Size::Quick).measures().len() * 2 < wanted(Size::Full).measures().len());
    }

    #[test]
    fn a_guest_of_one_cpu_measures_nothing_twice() {
        let measures = Wanted { cpus: 1, ..wanted(Size::Full) }.measures();
        let names: BTreeSet<String> = measures.iter().map(Measure::name).collect();
        assert_eq!(names.len(), measures.len());
    }

    #[test]
    fn threads_double_up_to_all() {
        let threads = |size, cpus| {
            let wanted = Wanted { cpus, designs: Vec::new(), kinds: vec!["access".into()], ..wanted(size) };
            let nothing = wanted.measures().into_iter().filter(|measure| measure.kind == "nothing");
            nothing.map(|measure| measure.settings["threads"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(threads(Size::Full, 6), ["1", "2", "4", "6"]);
        assert_eq!(threads(Size::Quick, 6), ["1", "6"]);
        assert_eq!([threads(Size::Full, 2), threads(Size::Quick, 1)], [vec!["1", "2"], vec!["1"]]);
    }

    #[test]
    fn only_what_is_wanted_is_measured() {
        let one = Wanted { designs: vec![Design::StackToken], kinds: vec!["revoke".into()], ..wanted(Size::Full) };
        let measures = one.measures();
        assert!(measures.iter().all(|measure| ["clock", "revoke"].contains(&measure.kind.as_str())));
        assert!(measures.iter().all(|measure| measure.design.as_deref().is_none_or(|name| name == "stack-token")));
    }

    #[test]
    fn another_plan_has_another_digest() {
        let full = wanted(Size::Full);
        // It measures memory, whose settings do not name CPUs.
        let memory = |cpus| Wanted { cpus, kinds: vec!["memory".into()], ..wanted(Size::Full) }.digest();
        assert_ne!(memory(2), memory(4));
        let others = [
            wanted(Size::Quick),
            Wanted { cpus: 1, ..full.clone() },
            Wanted { designs: vec![Design::Rwsem], ..full.clone() },
            Wanted { kinds: vec!["revoke".into()], ..full.clone() },
        ];
        assert_eq!(full.digest(), wanted(Size::Full).digest());
        assert!(others.iter().all(|other| other.digest() != full.digest()));
    }

    #[test]
    fn a_gate_measures_what_it_says() {
        let quick = wanted(Size::Quick).measures();
        for kind in KINDS {
            assert_eq!(quick.iter().any(|measure| measure.kind == kind), QUICK_KINDS.contains(&kind), "{kind}");
        }
        assert!(!quick.iter().any(is_of_the_kernel));
    }

    #[test]
    fn each_boot_has_an_order_of_its_own_and_the_same_again() {
        let measures = wanted(Size::Quick).measures();
        let orders = [0, 1].map(|boot| order(measures.clone(), 7, boot));
        assert_ne!(orders[0], orders[1]);
        assert_eq!(orders[1], order(measures.clone(), 7, 1));
        let mut sorted = orders[0].clone();
        sorted.sort();
        let mut all = measures;
        all.sort();
        assert_eq!(sorted, all);
    }

    #[test]
    fn sides_take_turns_and_more_boots_change_none() {
        let few = boots(&[Side::A, Side::B], 10, 3);
        let many = boots(&[Side::A, Side::B], 40, 3);
        assert_eq!(few, many[..20]);
        assert!(many.chunks(2).all(|pair| pair[0] != pair[1]));
        let first_of_a = many.chunks(2).filter(|pair| pair[0] == Side::A).count();
        assert!((8..=32).contains(&first_of_a), "{first_of_a} of 40");
        assert_eq!(boots(&[Side::A], 3, 3), [Side::A; 3]);
    }
}
