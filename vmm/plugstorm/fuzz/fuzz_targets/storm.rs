//! A storm over a guest that lies: whatever it says on its port and its console, and whatever its slots do, the storm ends, with a
//! result that can be written down, read back and reported on.
//!
//! The guest is the scripted one of the unit tests. The first byte says what is wrong with it; each next event that it has takes a
//! byte which says what becomes of that event, and what that needs.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::AtomicBool;

use libfuzzer_sys::fuzz_target;
use plugstorm::plan::Plan;
use plugstorm::progress::Quiet;
use plugstorm::report::{Format, Gathered, Report, Run, plain};
use plugstorm::results::{self, Event, Holdings, HostFacts, HostKind, RunResult};
use plugstorm::scenario::{Renew, Scenario, Until, parse};
use plugstorm::storm::guest;
use plugstorm::storm::guest::{EndCause, Guest, GuestError, GuestEvent, Sight, SlotChange, Stamped, Started};
use plugstorm::storm::{self, CALIBRATION_REFERENCE_NS, Setting};
use plugstorm::verdict::judge;
use plugstorm_wire::{FromGuest, Line, LineReader, PciAddress, ToGuest, encode};

#[allow(dead_code, unused_imports)]
#[path = "../../src/storm/fake.rs"]
mod fake;

use fake::{FakeGuest, Fault, Memory};

const SCENARIO: &str = include_str!("storm.toml");
/// Events that are changed, at most: a storm over one that goes on forever is ended by its time-outs, hours later.
const MOST_CHANGES: usize = 400;

const FAULTS: [Fault; 16] = [
    Fault::None,
    Fault::RemovalHangs(0),
    Fault::RemovalHangs(1),
    Fault::RemovalSpins,
    Fault::WarnsAndSpins,
    Fault::RemovalLate,
    Fault::HammerHangs,
    Fault::LosesMemory,
    Fault::BreaksInBoot(1),
    Fault::Impossible(1),
    Fault::OopsesAndRefuses,
    Fault::BeginsWithProblems,
    Fault::StrayNmi,
    Fault::TripleFaults(1),
    Fault::SilentAtTheEnd,
    Fault::Slow(5),
];

static SCENARIOS: LazyLock<[Scenario; 2]> = LazyLock::new(|| {
    [Until::FirstFinding, Until::AllCycles].map(|until| {
        let mut scenario = parse(SCENARIO, "storm.toml", "storm").unwrap();
        scenario.until = until;
        if until == Until::AllCycles {
            scenario.renew = Renew::EachCycle;
        }
        scenario
    })
});

/// The scripted guest, and what becomes of its events.
struct Liar<'a> {
    inner: FakeGuest,
    script: &'a [u8],
    changes: usize,
    /// Of its port: one that was cut goes on with the next.
    port: LineReader,
    /// To be given before anything else.
    next: Vec<Stamped>,
}

impl<'a> Liar<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.script.split_first()?;
        self.script = rest;
        Some(first)
    }

    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.script.split_at(count.min(self.script.len()));
        self.script = rest;
        bytes
    }

    /// What bytes on its port come to.
    fn say(&mut self, t_ns: u64, bytes: &[u8]) {
        let mut events = Vec::new();
        self.port.push::<FromGuest>(bytes, |line| {
            events.push(match line {
                Line::Message(message) => GuestEvent::Message(message),
                Line::Malformed { reason, excerpt } => GuestEvent::Malformed { reason, excerpt },
            });
        });
        self.next.extend(events.into_iter().rev().map(|event| Stamped { t_ns, event }));
    }

    /// Bytes of a message that are others.
    fn changed(&mut self, message: &FromGuest) -> Vec<u8> {
        let mut text = encode(message).unwrap_or_default();
        for _ in 0..=self.byte().unwrap_or_default() % 4 {
            let [low, high, gone, come] = [0; 4].map(|_: u8| self.byte().unwrap_or_default());
            let at = usize::from(u16::from_le_bytes([low, high])) % (text.len() + 1);
            let end = (at + usize::from(gone % 32)).min(text.len());
            let new = self.bytes(usize::from(come % 32));
            text.splice(at..end, new.iter().copied());
        }
        text
    }

    fn becomes(&mut self, stamped: Stamped) -> Option<Stamped> {
        let Stamped { t_ns, event } = stamped;
        if self.changes >= MOST_CHANGES {
            return Some(Stamped { t_ns, event });
        }
        let Some(what) = self.byte() else { return Some(Stamped { t_ns, event }) };
        self.changes += 1;
        match (what % 16, event) {
            (0..=7, event) => return Some(Stamped { t_ns, event }),
            (8 | 9, GuestEvent::Message(message)) => {
                let text = self.changed(&message);
                self.say(t_ns, &text);
            }
            (8 | 9, GuestEvent::Console(mut bytes)) => {
                let at = usize::from(what) % (bytes.len() + 1);
                let new = self.bytes(usize::from(what));
                bytes.splice(at..at, new.iter().copied());
                return Some(Stamped { t_ns, event: GuestEvent::Console(bytes) });
            }
            (10 | 11, event) => {
                self.next.push(Stamped { t_ns, event });
                let count = usize::from(self.byte().unwrap_or_default()) * 4;
                return Some(Stamped { t_ns, event: GuestEvent::Console(self.bytes(count).to_vec()) });
            }
            (12, event) => {
                self.next.push(Stamped { t_ns, event });
                let count = usize::from(self.byte().unwrap_or_default()) * 4;
                let line = self.bytes(count).to_vec();
                self.say(t_ns, &line);
            }
            (13, event) => {
                self.next.push(Stamped { t_ns, event: event.clone() });
                return Some(Stamped { t_ns, event });
            }
            (14, event) => {
                self.next.push(Stamped { t_ns, event });
                let [slot, kind] = [0; 2].map(|_: u8| self.byte().unwrap_or_default());
                let what = match kind % 5 {
                    0 => SlotChange::Interrupt,
                    1 => SlotChange::EventsCleared { presence: kind & 8 != 0, link: kind & 16 != 0 },
                    2 => SlotChange::ControlWritten(kind.into()),
                    3 => SlotChange::LinkDisabled(kind & 8 != 0),
                    _ => return Some(Stamped { t_ns, event: GuestEvent::Overrun { bytes: kind.into() } }),
                };
                return Some(Stamped { t_ns, event: GuestEvent::Slot { slot, what } });
            }
            // Lost, or the end of all.
            _ if what < 200 => {}
            _ => {
                let causes = [EndCause::PowerOff, EndCause::Reset, EndCause::Panicked, EndCause::TripleFault];
                let cause = causes.get(usize::from(what) % 4).cloned().unwrap_or(EndCause::Reset);
                return Some(Stamped { t_ns, event: GuestEvent::Ended(cause) });
            }
        }
        None
    }
}

impl Guest for Liar<'_> {
    fn next_event(&mut self, deadline_ns: u64) -> Option<Stamped> {
        loop {
            if let Some(next) = self.next.pop() {
                return Some(next);
            }
            let stamped = self.inner.next_event(deadline_ns)?;
            if let Some(next) = self.becomes(stamped) {
                return Some(next);
            }
        }
    }

    fn boot(&mut self) -> Result<Started, GuestError> {
        self.next.clear();
        self.port = LineReader::new();
        self.inner.boot()
    }

    fn stop(&mut self) {
        self.next.clear();
        self.inner.stop();
    }

    fn prepare(&mut self) {
        self.inner.prepare();
    }
    fn is_to_be_kept(&self) -> bool {
        self.inner.is_to_be_kept()
    }
    fn hold(&mut self) -> Result<(), GuestError> {
        self.inner.hold()
    }
    fn keep(&mut self, introduction: Vec<FromGuest>, boot_ns: u64) -> Result<bool, GuestError> {
        self.inner.keep(introduction, boot_ns)
    }
    fn settle(&mut self) {
        self.inner.settle();
    }
    fn distrust(&mut self, reason: &str) {
        self.inner.distrust(reason);
    }
    fn notes(&mut self) -> Vec<String> {
        self.inner.notes()
    }
    fn publish(&mut self) {
        self.inner.publish();
    }
    fn holdings(&self) -> Option<Holdings> {
        self.inner.holdings()
    }
    fn now_ns(&self) -> u64 {
        self.inner.now_ns()
    }
    fn port(&self, device: usize) -> PciAddress {
        self.inner.port(device)
    }
    fn plug(&mut self, device: usize) -> Result<(), GuestError> {
        self.inner.plug(device)
    }
    fn surprise_remove(&mut self, device: usize) -> Result<(), GuestError> {
        self.inner.surprise_remove(device)
    }
    fn migrate(&mut self) -> Result<bool, GuestError> {
        self.inner.migrate()
    }
    fn send(&mut self, message: &ToGuest) -> Result<(), GuestError> {
        self.inner.send(message)
    }
    fn send_nmi(&mut self) {
        self.inner.send_nmi();
    }
    fn look(&mut self) -> Result<Option<Sight>, GuestError> {
        self.inner.look()
    }
    fn tsc_to_ns(&self, tsc: u64) -> Option<u64> {
        self.inner.tsc_to_ns(tsc)
    }
    fn tsc_khz(&self) -> u32 {
        self.inner.tsc_khz()
    }
}

fuzz_target!(init: LazyLock::force(&SCENARIOS), |bytes: &[u8]| {
    let Some((&first, script)) = bytes.split_first() else { return };
    let [until_first, all] = &*SCENARIOS;
    let scenario = if first & 0x10 == 0 { until_first } else { all };
    let mut inner = FakeGuest::new(FAULTS[usize::from(first % 16)]);
    inner.keeps = first & 0x20 != 0;
    inner.locks = (first & 0x40 != 0).then(|| b"Showing all locks held in the system:\n".to_vec());
    let mut guest = Liar { inner, script, changes: 0, port: LineReader::new(), next: Vec::new() };
    let mut journal = Memory::default();
    let plan = Plan::new(scenario, 7);
    let outcome = storm::run(Setting {
        scenario,
        plan: &plan,
        guest: &mut guest,
        journal: &mut journal,
        progress: &mut Quiet,
        interrupt: &AtomicBool::new(false),
        host_slowdown: 1.0,
        emulated: first & 0x80 != 0,
        kernel: "fake",
    });
    for event in &journal.events {
        let line = serde_json::to_vec(event).expect("an event that cannot be written");
        let read: Event = serde_json::from_slice(&line).expect("an event that cannot be read back");
        assert_eq!(read.t_ns, event.t_ns);
    }
    let host = HostFacts { kind: HostKind::Kvm, loop_rounds_per_second: None, exits_per_second: None };
    let begun = results::running(scenario, 7, "fake", host, 1.0);
    let verdict = judge(scenario, &outcome);
    let result = results::ended(begun, scenario, outcome, 0, verdict);
    let text = serde_json::to_vec(&result).expect("a result that cannot be written");
    let result: RunResult = serde_json::from_slice(&text).expect("a result that cannot be read back");
    let run = Run { folder: PathBuf::from("/nowhere"), name: "storm".into(), result };
    let mut gathered = Gathered::default();
    gathered.runs.push(run);
    let report = Report::of(gathered, None);
    for format in [Format::Html, Format::Junit, Format::Ktap, Format::Kcidb, Format::Github, Format::Markdown] {
        let text = report.render(format, &plain, "fuzz").expect("a report that cannot be written");
        assert!(!text.contains('\u{1b}'), "{format:?} drives a terminal");
    }
});
