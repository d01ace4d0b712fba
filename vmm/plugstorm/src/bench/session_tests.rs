use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;

use plugstorm_wire::{ModuleOutcome, PciAddress};

use super::*;
use crate::results::Holdings;
use crate::storm::guest::{EndCause, Stamped, Started};

/// A guest whose answers are written down beforehand, and whose clock goes on when nothing happens.
#[derive(Debug, Default)]
struct Scripted {
    now_ns: u64,
    events: VecDeque<GuestEvent>,
    /// What it says to each measure, one after another; then it is silent.
    results: VecDeque<(&'static str, Option<&'static str>)>,
    /// Printed before it answers a measure.
    prints: Option<&'static [u8]>,
    modules: Vec<ModuleOutcome>,
    version: u32,
    dies: bool,
    stops: u32,
    requests: Vec<String>,
}

impl Scripted {
    fn new() -> Self {
        Self { version: VERSION, ..Self::default() }
    }

    fn answers(results: &[(&'static str, Option<&'static str>)]) -> Self {
        Self { results: results.iter().copied().collect(), ..Self::new() }
    }
}

impl Guest for Scripted {
    fn prepare(&mut self) {}
    fn boot(&mut self) -> Result<Started, GuestError> {
        self.now_ns += 5_000_000;
        self.events.push_back(GuestEvent::Console(b"[    0.1] booting\n".to_vec()));
        self.events.push_back(GuestEvent::Message(FromGuest::Hello {
            version: self.version,
            kernel_release: "6.12.0-timing\u{1b}".into(),
            cpus: 2,
            tsc: 1,
            since_boot_ns: 1,
            calibration_ns: 30_000_000,
            tick_ns: 4_000_000,
            preemption: Some("voluntary".into()),
            modules: self.modules.clone(),
            leaks: false,
        }));
        Ok(Started::Booted)
    }
    fn is_to_be_kept(&self) -> bool {
        false
    }
    fn hold(&mut self) -> Result<(), GuestError> {
        Ok(())
    }
    fn keep(&mut self, _introduction: Vec<FromGuest>, _boot_ns: u64) -> Result<bool, GuestError> {
        Ok(false)
    }
    fn settle(&mut self) {}
    fn distrust(&mut self, _reason: &str) {}
    fn notes(&mut self) -> Vec<String> {
        Vec::new()
    }
    fn stop(&mut self) {
        self.stops += 1;
    }
    fn publish(&mut self) {}
    fn holdings(&self) -> Option<Holdings> {
        None
    }
    fn now_ns(&self) -> u64 {
        self.now_ns
    }
    fn port(&self, _device: usize) -> PciAddress {
        PciAddress(String::new())
    }
    fn plug(&mut self, _device: usize) -> Result<(), GuestError> {
        Ok(())
    }
    fn surprise_remove(&mut self, _device: usize) -> Result<(), GuestError> {
        Ok(())
    }
    fn migrate(&mut self) -> Result<bool, GuestError> {
        Ok(false)
    }
    fn send(&mut self, message: &ToGuest) -> Result<(), GuestError> {
        let message = match message {
            ToGuest::Configure { .. } => FromGuest::Configured { probes_failed: Vec::new() },
            ToGuest::Begin { .. } => {
                FromGuest::Begun { tsc: 1, calibration_ns: 1, random: 1, problems: Vec::new(), points_error: None }
            }
            ToGuest::Measure { id, request } => {
                self.requests.push(request.clone());
                self.events.extend(self.prints.map(|text| GuestEvent::Console(text.to_vec())));
                if self.dies {
                    self.events.push_back(GuestEvent::Ended(EndCause::Panicked));
                }
                let Some((results, error)) = self.results.pop_front() else { return Ok(()) };
                let (results, error) = (results.to_owned(), error.map(str::to_owned));
                FromGuest::Measured { id: *id, began_tsc: 1, ended_tsc: 2, results, error }
            }
            ToGuest::LoadModule { id, file, .. } => {
                let error = file.starts_with("no").then(|| format!("cannot load {file}"));
                FromGuest::Done { id: *id, began_tsc: 1, ended_tsc: 2, error }
            }
            ToGuest::UnloadModule { id, .. } => FromGuest::Done { id: *id, began_tsc: 1, ended_tsc: 2, error: None },
            other => panic!("{other:?}"),
        };
        self.events.push_back(GuestEvent::Message(message));
        Ok(())
    }
    fn send_nmi(&mut self) {}
    fn next_event(&mut self, deadline_ns: u64) -> Option<Stamped> {
        match self.events.pop_front() {
            Some(event) => Some(Stamped { t_ns: self.now_ns, event }),
            None => {
                self.now_ns = self.now_ns.max(deadline_ns);
                None
            }
        }
    }
    fn tsc_to_ns(&self, tsc: u64) -> Option<u64> {
        Some(tsc)
    }
    fn tsc_khz(&self) -> u32 {
        1_000_000
    }
}

fn facts() -> SideFacts {
    SideFacts {
        kernel: "timing".into(),
        modules: None,
        made_of: String::new(),
        release: String::new(),
        hz: 0,
        preemption: None,
        cpus: 0,
    }
}

fn clock() -> Measure {
    Measure { kind: "clock".into(), design: None, settings: [("rounds".to_owned(), "2".to_owned())].into() }
}

/// Boots it and has one thing measured.
fn once(guest: &mut Scripted) -> Result<Answer, SessionError> {
    let (interrupt, mut console) = (AtomicBool::new(false), Vec::new());
    let mut session = Session::begin(guest, facts(), &[], 1.0, &interrupt, &mut console)?;
    session.measure(&clock())
}

#[test]
fn a_guest_says_what_it_is_and_answers() {
    let mut guest = Scripted::answers(&[("0 0 100 10\n1 0 90 10\n", None)]);
    let (interrupt, mut console) = (AtomicBool::new(false), Vec::new());
    let mut session = Session::begin(&mut guest, facts(), &[], 1.0, &interrupt, &mut console).unwrap();
    let said = session.facts();
    assert_eq!((said.release.as_str(), said.hz, said.cpus), ("6.12.0-timing", 250, 2));
    assert_eq!(session.boot_ns(), 5_000_000);
    assert_eq!(session.measure(&clock()).unwrap().samples.len(), 2);
    assert_eq!(session.end().unwrap(), None);
    assert_eq!(guest.requests, ["measure=clock rounds=2"]);
    assert!(guest.stops > 0);
    assert_eq!(console, b"[    0.1] booting\n");
}

#[test]
fn what_cannot_be_measured_is_an_answer() {
    for (answer, wanted) in [
        (("error the design is not atomic\n", Some("cannot write: EOPNOTSUPP")), "the design is not atomic"),
        (("", Some("cannot write: EOPNOTSUPP")), "cannot write: EOPNOTSUPP"),
        (("", None), "no sample"),
    ] {
        let told = once(&mut Scripted::answers(&[answer])).unwrap().error.unwrap();
        assert!(told.contains(wanted), "{told}");
    }
}

#[test]
fn silence_death_and_a_complaint_end_it_and_the_guest_is_stopped() {
    let splat: &[u8] = b"[    1.0] BUG: KASAN: slab-use-after-free in f+0x1/0x2\n[    1.0] Read of size 8 at addr ffff888000000000 by task a/1\n\
        [    1.0] ==================================================================\n[    1.1] BUG: kernel NULL pointer dereference, address: 0\n";
    let mut silent = Scripted::new();
    let mut dead = Scripted { dies: true, ..Scripted::new() };
    let mut complains = Scripted { prints: Some(splat), ..Scripted::answers(&[("0 0 1 1\n", None)]) };
    for (guest, wanted) in
        [(&mut silent, "did not answer measure=clock"), (&mut dead, "panicked"), (&mut complains, "complained")]
    {
        let error = once(guest).unwrap_err();
        assert!(matches!(&error, SessionError::Cut(told) if told.contains(wanted)), "{error}");
        assert!(guest.stops > 0);
    }
    // Three times as slow as the machine that time-outs are written for.
    assert!(silent.now_ns >= 3 * MEASURE_NS && silent.now_ns < 4 * MEASURE_NS, "{}", silent.now_ns);
}

#[test]
fn a_guest_that_is_not_what_was_asked_for_is_refused() {
    let mut other = Scripted { version: VERSION + 1, ..Scripted::new() };
    assert!(once(&mut other).unwrap_err().to_string().contains("build both"));
    let failed = ModuleOutcome { file: "02-plugstorm_bench.ko".into(), error: Some("cannot load".into()) };
    let mut without = Scripted { modules: vec![failed], ..Scripted::new() };
    assert!(once(&mut without).unwrap_err().to_string().contains("02-plugstorm_bench.ko"));
}

#[test]
fn a_signal_ends_it() {
    let (interrupt, mut console) = (AtomicBool::new(true), Vec::new());
    let mut guest = Scripted::new();
    let begun = Session::begin(&mut guest, facts(), &[], 1.0, &interrupt, &mut console);
    assert!(matches!(begun, Err(SessionError::Interrupted)));
    drop(begun);
    assert!(guest.stops > 0);
}

#[test]
fn modules_come_and_go_and_lines_are_waited_for() {
    let mut guest = Scripted::new();
    guest.events.push_back(GuestEvent::Console(b"srcu-ref-scale: START\nsrcu-ref-scale: 1 2.5\n".to_vec()));
    let (interrupt, mut console) = (AtomicBool::new(false), Vec::new());
    let mut session = Session::begin(&mut guest, facts(), &[], 1.0, &interrupt, &mut console).unwrap();
    assert_eq!(session.load("refscale.ko", "nreaders=1").unwrap(), None);
    assert_eq!(session.load("none.ko", "").unwrap().as_deref(), Some("cannot load none.ko"));
    let found = session.line(1_000_000_000, "ends", |line| line.ends_with("2.5").then_some(line.len())).unwrap();
    assert_eq!(found, 21);
    assert_eq!(session.unload("refscale").unwrap(), None);
    let never = session.line(1_000_000_000, "never said it", |_| None::<()>).unwrap_err();
    assert!(never.to_string().contains("never said it within 1 s"), "{never}");
    session.from_here();
}
