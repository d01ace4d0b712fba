use std::collections::VecDeque;

use plugstorm_wire::{PciAddress, ToGuest};

use super::*;
use crate::results::Holdings;
use crate::storm::guest::{EndCause, Stamped, Started};

const LIMITS: Limits = Limits { boot_ns: 30_000, silence_ns: 10_000, rest_ns: 500, total_ns: 100_000 };

/// A guest by script: what happens when. Time passes by waiting.
#[derive(Default)]
struct Script {
    events: VecDeque<Stamped>,
    now_ns: u64,
    stopped: bool,
}

impl Script {
    fn at(mut self, t_ns: u64, event: GuestEvent) -> Self {
        self.events.push_back(Stamped { t_ns, event });
        self
    }

    fn says(self, t_ns: u64, text: &str) -> Self {
        self.at(t_ns, GuestEvent::Console(text.as_bytes().to_vec()))
    }

    fn hello(self, t_ns: u64, error: Option<&str>) -> Self {
        self.hello_of(t_ns, VERSION, error)
    }

    fn hello_of(self, t_ns: u64, version: u32, error: Option<&str>) -> Self {
        let file = "07-plugstorm_kunit.ko".to_owned();
        let hello = FromGuest::Hello {
            version,
            kernel_release: "6.12.1-x".into(),
            cpus: 2,
            tsc: 1,
            since_boot_ns: 1,
            calibration_ns: 1,
            tick_ns: 4_000_000,
            preemption: None,
            leaks: false,
            modules: vec![ModuleOutcome { file, error: error.map(str::to_owned) }],
        };
        self.at(t_ns, GuestEvent::Message(hello))
    }

    /// What was heard, and the report's file.
    fn heard(mut self) -> (Heard, String) {
        let (mut console, mut ktap) = (Vec::new(), Vec::new());
        let mut files = Files { console: &mut console, ktap: &mut ktap };
        let heard = listen(&mut self, &LIMITS, &AtomicBool::new(false), &mut files).unwrap();
        assert!(self.stopped);
        (heard, String::from_utf8(ktap).unwrap())
    }
}

impl Guest for Script {
    fn boot(&mut self) -> Result<Started, GuestError> {
        Ok(Started::Booted)
    }

    fn next_event(&mut self, deadline_ns: u64) -> Option<Stamped> {
        match self.events.front() {
            Some(stamped) if stamped.t_ns <= deadline_ns => {
                self.now_ns = self.now_ns.max(stamped.t_ns);
                self.events.pop_front()
            }
            _ => {
                self.now_ns = self.now_ns.max(deadline_ns);
                None
            }
        }
    }

    fn stop(&mut self) {
        self.stopped = true;
    }

    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    fn prepare(&mut self) {}

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

    fn publish(&mut self) {}

    fn holdings(&self) -> Option<Holdings> {
        None
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

    fn send(&mut self, _message: &ToGuest) -> Result<(), GuestError> {
        Ok(())
    }

    fn send_nmi(&mut self) {}

    fn tsc_to_ns(&self, _tsc: u64) -> Option<u64> {
        None
    }

    fn tsc_khz(&self) -> u32 {
        0
    }
}

const REPORT: &str = "[  3.000000] KTAP version 1\n[  3.000001] 1..1\n[  3.000002]     KTAP version 1\n\
                      [  3.000003]     # Subtest: plugstorm_rwsem\n[  3.000004]     1..1\n[  3.000005]     ok 1 access\n\
                      [  3.000006] ok 1 plugstorm_rwsem\n";

#[test]
fn a_guest_is_heard_out() {
    let (heard, ktap) = Script::default().says(100, REPORT).hello(200, None).says(300, "the rest\n").heard();
    assert_eq!((heard.end, heard.release.as_deref()), (End::Told, Some("6.12.1-x")));
    assert_eq!((heard.tests.len(), heard.totals.passed, heard.missing.len()), (2, 1, 0));
    // The rest came 300 ns in; that nothing more comes is known 500 later.
    assert_eq!(heard.duration_ns, 800);
    assert!(ktap.starts_with("KTAP version 1\n1..1\n    KTAP version 1\n") && !ktap.contains("the rest"), "{ktap}");
}

#[test]
fn a_report_may_take_long_as_long_as_it_goes_on() {
    let mut script = Script::default().says(29_000, "KTAP version 1\n1..3\n");
    for (number, t_ns) in [(1, 38_000), (2, 47_000), (3, 56_000)] {
        script = script.says(t_ns, &format!("ok {number} x\n"));
    }
    assert_eq!(script.hello(57_000, None).heard().0.end, End::Told);
}

#[test]
fn every_wait_has_an_end() {
    let sentence = |script: Script| match script.heard().0.end {
        End::Cut(sentence) => sentence,
        other => panic!("{other:?}"),
    };
    assert!(sentence(Script::default()).contains("began no report"));
    let silent = Script::default().says(100, "KTAP version 1\n1..1\n").says(9_000, "chatter\n").says(9_900, "more\n");
    assert!(sentence(silent).contains("a test did not end"));
    let mut endless = Script::default().says(1, "KTAP version 1\n1..999\n");
    for number in 1..50u64 {
        endless = endless.says(number * 5_000, &format!("ok {number} x\n"));
    }
    assert!(sentence(endless).contains("did not end within"));
    let mut babbling = Script::default().says(1, REPORT).hello(2, None);
    for number in 1..1000u64 {
        babbling = babbling.says(number * 400, "x\n");
    }
    assert!(sentence(babbling).contains("did not end within"));
    assert!(sentence(Script::default().hello_of(5, VERSION + 1, None)).contains("speaks version"));
}

#[test]
fn a_guest_that_dies_is_cut_short_and_what_it_said_stays() {
    let oops = "[  3.1] x\n[    3.200000] BUG: kernel NULL pointer dereference, address: 0000000000000018\n\
                [    3.200001] Oops: Oops: 0000 [#1] PREEMPT SMP NOPTI\n[    3.200002] RIP: 0010:rwsem_leave+0x21/0x80\n";
    let half: String = REPORT.lines().take(5).flat_map(|line| [line, "\n"]).collect();
    let script = Script::default().says(100, &half).says(200, oops);
    let (heard, _) = script.at(300, GuestEvent::Ended(EndCause::TripleFault)).heard();
    assert_eq!(heard.end, End::Cut("the guest ended with a triple fault before its tests had ended".into()));
    assert_eq!(heard.missing, [(vec!["plugstorm_rwsem".to_owned()], 1), (vec![], 1)]);
    assert_eq!(heard.splats.len(), 1);
}

#[test]
fn a_signal_ends_it() {
    let mut script = Script::default();
    let (mut console, mut ktap) = (Vec::new(), Vec::new());
    let mut files = Files { console: &mut console, ktap: &mut ktap };
    let heard = listen(&mut script, &LIMITS, &AtomicBool::new(true), &mut files).unwrap();
    assert_eq!(heard.end, End::Interrupted);
}

#[test]
fn a_full_disk_is_said() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut script = Script::default().says(1, REPORT);
    let mut files = Files { console: &mut Full, ktap: &mut Vec::new() };
    let failed = listen(&mut script, &LIMITS, &AtomicBool::new(false), &mut files);
    assert!(matches!(failed, Err(ListenError::Output(_))));
    assert!(script.stopped);
}
