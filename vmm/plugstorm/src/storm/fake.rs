//! A guest by script, with a clock that jumps: an hour's time-out passes at once.

use std::collections::BTreeSet;
use std::io;

use plugstorm_observe::hang::{Doing, Executed, Processor, StackedTask};
use plugstorm_wire::{
    ErrnoCount, FromGuest, HammerSpec, HammerTarget, ModuleOutcome, Operation, OperationCount, PciAddress, PointHits,
    PointSpec, ProgramEnd, TaskStack, ToGuest, VERSION, program_label,
};

use super::guest::{EndCause, Guest, GuestError, GuestEvent, Sight, SlotChange, Stamped, Started};
use crate::results::{Event, Holdings, Journal};

/// What is wrong with the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing.
    None,
    /// The agent never speaks.
    Mute,
    /// It ends before the agent speaks.
    EndsInBoot,
    /// The kernel breaks before the agent speaks, so many times.
    BreaksInBoot(u32),
    /// It says hello and takes no configuration.
    Deaf,
    /// It takes its configuration and never begins.
    NeverBegins,
    /// It begins twice.
    BeginsTwice,
    /// It begins before it is told to, and says hello again while it is.
    BeginsUnasked,
    /// It begins with problems, one of them twice.
    BeginsWithProblems,
    /// It has none of the points that it is to arm.
    KnowsNoPoint,
    /// Nobody ever comes to a point.
    ReachesNoPoint,
    /// It cannot read how often points were reached.
    CountsNoPoints,
    /// It says that points were reached which nobody armed.
    InventsPoints,
    /// Nobody answers when it is asked for the hits of points.
    SilentOverPoints,
    /// Its kernel has lost nothing.
    LosesNothing,
    /// Its kernel has lost some objects.
    LosesMemory,
    /// Its kernel refuses to look for what it has lost.
    CannotTellLeaks,
    /// Nobody answers when its kernel is to look for what it has lost.
    SilentOverLeaks,
    /// It speaks another version.
    Foreign,
    /// A removal of this cycle never ends; a thread sleeps in a read.
    RemovalHangs(u32),
    /// A removal never ends and nobody answers.
    RemovalSpins,
    /// The kernel warns of something, then a removal never ends and nobody answers.
    WarnsAndSpins,
    /// The kernel oopses without an end to its report, and the hammer cannot start.
    OopsesAndRefuses,
    /// Nobody answers after the last cycle.
    SilentAtTheEnd,
    /// A triple fault after the last cycle.
    FaultsAtTheEnd,
    /// A non-maskable interrupt of nobody's.
    StrayNmi,
    /// A removal ends while the storm looks for the reason.
    RemovalLate,
    /// Each removal takes a while, within the slowdown.
    RemovalTakes(u64),
    /// The kernel resets the machine during a removal.
    ResetsInRemoval,
    /// The first so many removals end in a triple fault.
    TripleFaults(u32),
    /// In the first so many removals the kernel complains of a lock, inside an interrupt that cannot have come.
    Impossible(u32),
    /// The agent ends; the kernel panics over it.
    AgentEnds,
    /// The node never comes.
    NoNode,
    /// The hammer cannot start.
    StartFails,
    /// The hammer's threads do not come back.
    HammerHangs,
    /// The hammer makes no calls.
    Idle,
    /// Every call fails with EBADF.
    Vain,
    /// Garbage on the channel.
    Lies,
    /// Answers to nothing.
    Invents,
    /// Writes to its console without end.
    Floods,
    /// Never speaks on the channel, and never stops writing to its console.
    Chatters,
    /// The unbind file cannot be written.
    UnbindRefused,
    /// The machine fails.
    MachineFails,
    /// Its kernel breaks when it is about to be kept.
    WarnsLate,
    /// Its kernel warns of something while it boots.
    WarnsInBoot,
    /// Its forks never begin.
    ForkNeverBegins,
    /// The kernels of its forks break before they begin.
    ForkBreaks,
    /// It cannot be migrated.
    MigrationFails,
    /// Calibrates as slow as this many times the reference.
    Slow(u64),
}

/// The guest.
pub(super) struct FakeGuest {
    pub(super) fault: Fault,
    pub(super) boots: u32,
    /// Guests are kept, and forked from then on.
    pub(super) keeps: bool,
    kept: Option<Vec<FromGuest>>,
    is_fork: bool,
    held: bool,
    notes: Vec<String>,
    pub(super) migrations: u32,
    pub(super) settled: u32,
    pub(super) published: u32,
    pub(super) plugged: BTreeSet<usize>,
    pub(super) removals: u32,
    pub(super) sent: Vec<ToGuest>,
    now_ns: u64,
    /// What will happen, by time.
    queue: Vec<Stamped>,
    targets: Vec<HammerSpec>,
    armed: Vec<PointSpec>,
    /// What its agent says of modules.
    pub(super) modules: Vec<ModuleOutcome>,
    /// What its kernel prints when it is told to list held locks; nothing if it cannot.
    pub(super) locks: Option<Vec<u8>>,
    /// A program that does not end.
    program: Option<Vec<String>>,
    silent: bool,
    running: bool,
}

impl FakeGuest {
    pub(super) fn new(fault: Fault) -> Self {
        Self {
            fault,
            boots: 0,
            keeps: false,
            kept: None,
            is_fork: false,
            held: false,
            notes: Vec::new(),
            migrations: 0,
            settled: 0,
            published: 0,
            plugged: BTreeSet::new(),
            removals: 0,
            sent: Vec::new(),
            now_ns: 1_000,
            queue: Vec::new(),
            targets: Vec::new(),
            armed: Vec::new(),
            modules: vec![ModuleOutcome { file: "10-gpio-virtio.ko".into(), error: None }],
            locks: None,
            program: None,
            silent: false,
            running: false,
        }
    }

    pub(super) fn after(&mut self, ms: u64, event: GuestEvent) {
        self.queue.push(Stamped { t_ns: self.now_ns + ms * 1_000_000, event });
        self.queue.sort_by_key(|stamped| stamped.t_ns);
    }

    fn say(&mut self, ms: u64, message: FromGuest) {
        if !self.silent {
            self.after(ms, GuestEvent::Message(message));
        }
    }

    fn uevent(&mut self, ms: u64, device: usize, action: &str, subsystem: &str, devname: Option<&str>) {
        let below = if subsystem == "pci" { "0000:01:00.0" } else { "0000:01:00.0/virtio1/node" };
        let devpath = format!("/devices/pci0000:00/{}/{below}", self.port(device).0);
        let (action, subsystem) = (action.to_owned(), subsystem.to_owned());
        let devname = devname.map(str::to_owned);
        self.say(ms, FromGuest::Uevent { tsc: self.now_ns, action, devpath, subsystem, driver: None, devname });
    }

    fn node_appears(&mut self, ms: u64, device: usize) {
        if self.fault == Fault::NoNode {
            return;
        }
        let ours = self.targets.iter().any(|hammer| hammer.target == HammerTarget::Plugstorm);
        let (subsystem, name) = if ours { ("plugstorm", "plugstorm0") } else { ("gpio", "gpiochip0") };
        self.uevent(ms, device, "add", subsystem, Some(name));
    }

    fn done(&mut self, ms: u64, id: u64, error: Option<&str>) {
        let error = error.map(str::to_owned);
        self.say(ms, FromGuest::Done { id, began_tsc: self.now_ns, ended_tsc: self.now_ns, error });
    }

    /// Milliseconds that a removal takes; none if it does not end.
    fn removal(&mut self) -> Option<u64> {
        self.removals += 1;
        match self.fault {
            Fault::RemovalHangs(nth) if nth + 1 == self.removals => None,
            Fault::RemovalSpins => {
                self.silent = true;
                None
            }
            Fault::WarnsAndSpins => {
                self.after(0, GuestEvent::Console(WARNING.to_vec()));
                self.silent = true;
                None
            }
            Fault::StrayNmi => {
                self.after(1, GuestEvent::Console(NMI_PANIC.to_vec()));
                self.after(2, GuestEvent::Ended(EndCause::Reset));
                None
            }
            Fault::RemovalLate => Some(10_300),
            Fault::RemovalTakes(ms) => Some(ms),
            Fault::ResetsInRemoval => {
                self.after(3, GuestEvent::Console(b"one last line\n".to_vec()));
                self.after(2, GuestEvent::Ended(EndCause::Reset));
                None
            }
            Fault::TripleFaults(most) if self.removals <= most => {
                self.after(2, GuestEvent::Ended(EndCause::TripleFault));
                None
            }
            Fault::Impossible(most) if self.removals <= most => {
                self.after(0, GuestEvent::Console(IMPOSSIBLE.to_vec()));
                Some(4)
            }
            Fault::MachineFails => {
                self.after(2, GuestEvent::Ended(EndCause::Machine("KVM_RUN gave EFAULT".into())));
                None
            }
            _ => Some(4),
        }
    }

    fn report(&mut self, id: u64, hammer: String) {
        let calls = if self.fault == Fault::Idle { 0 } else { 1000 };
        let failed = if self.fault == Fault::Vain { 1000 } else { calls / 10 };
        let errno = if self.fault == Fault::Vain { (9, "EBADF") } else { (19, "ENODEV") };
        let operation = OperationCount {
            operation: Operation::Poll,
            calls,
            succeeded: calls - failed,
            errors: vec![ErrnoCount { errno: errno.0, name: errno.1.into(), count: failed }],
            exits: Vec::new(),
            longest_ns: 50_000,
            gone_tsc: None,
        };
        let hangs = self.fault == Fault::HammerHangs;
        let hanging = if hangs {
            vec![plugstorm_wire::HangingThread { tid: 70, operation: Some(Operation::Poll), since_tsc: 5 }]
        } else {
            Vec::new()
        };
        self.say(
            2,
            FromGuest::HammerReport {
                id,
                tsc: self.now_ns,
                hammer,
                ended: !hangs,
                active_ns: 10_000_000,
                operations: vec![operation],
                hanging,
            },
        );
    }

    fn tasks(&mut self, id: u64) {
        let task = |tid, comm: &str, state, hammer: Option<&str>, stack: &[&str]| TaskStack {
            pid: tid,
            tid,
            comm: comm.into(),
            state,
            switches: 5,
            stack: stack.iter().map(|&frame| frame.to_owned()).collect(),
            hammer: hammer.map(str::to_owned),
            operation: hammer.map(|_| Operation::ReadEvent),
        };
        let mut tasks = Vec::new();
        if matches!(self.fault, Fault::RemovalHangs(_)) {
            tasks.push(task(
                24,
                "irq/24-pciehp",
                'D',
                None,
                &[
                    "__synchronize_srcu+0xa5/0xc0",
                    "gpiochip_remove+0x66/0x160",
                    "virtio_gpio_remove+0x1f/0x50",
                    "virtio_dev_remove+0x3f/0x90",
                    "device_release_driver_internal+0x19f/0x200",
                    "pci_stop_bus_device+0x6c/0x90",
                    "pciehp_unconfigure_device+0x9c/0x170",
                    "pciehp_disable_slot+0x66/0x110",
                    "pciehp_ist+0x9c/0x110",
                    "irq_thread+0xe5/0x1b0",
                ],
            ));
        }
        tasks.push(task(
            70,
            "hammer",
            'S',
            Some("pollers"),
            &["linereq_read+0x1c7/0x2f0", "vfs_read+0xb6/0x370", "ksys_read+0x6f/0xf0"],
        ));
        if let Some(program) = self.program.clone() {
            let label = program_label(&program);
            let waits: &[&str] = &["do_wait+0x1/0x2", "kernel_wait4+0x1/0x2"];
            let hangs: &[&str] = &["mydev_read+0x1c/0x2f", "vfs_read+0xb6/0x370"];
            let child = if program.first().is_some_and(|path| path == "/bin/hang") { hangs } else { &[] };
            tasks.push(task(80, "sh", 'S', Some(&label), if child.is_empty() { child } else { waits }));
            tasks.push(task(81, "reader", 'S', Some(&label), child));
        }
        self.say(
            1,
            FromGuest::Tasks { id, tsc: self.now_ns, tasks, left_out: 0, states: Vec::new(), points: self.hits(7) },
        );
    }

    fn calibration_ns(&self) -> u64 {
        match self.fault {
            Fault::Slow(times) => times * super::CALIBRATION_REFERENCE_NS,
            _ => 4_000_000,
        }
    }

    fn begun(&mut self, ms: u64, problems: &[&str]) {
        let problems = problems.iter().map(|&problem| problem.to_owned()).collect();
        let calibration_ns = self.calibration_ns();
        let points_error =
            (self.fault == Fault::KnowsNoPoint).then(|| "our module has no point\u{1b} `a.b`".to_owned());
        let tsc = self.now_ns;
        self.say(ms, FromGuest::Begun { tsc, calibration_ns, random: u64::MAX, problems, points_error });
    }

    /// The points that it was told to arm, each reached so often.
    fn hits(&self, hits: u32) -> Vec<PointHits> {
        self.armed.iter().map(|point| PointHits { name: point.name.clone(), hits }).collect()
    }

    fn read_points(&mut self, id: u64) {
        let points = match self.fault {
            Fault::SilentOverPoints => {
                self.silent = true;
                return;
            }
            Fault::CountsNoPoints => return self.done(1, id, Some("no\u{1b} such file")),
            Fault::ReachesNoPoint => self.hits(0),
            Fault::InventsPoints => vec![PointHits { name: "driver.of-nobody".into(), hits: 5 }; 3000],
            _ => self.hits(7 * (self.removals + 1)),
        };
        self.say(1, FromGuest::Points { id, tsc: self.now_ns, points });
    }

    fn find_leaks(&mut self, id: u64) {
        let report = |function: &str| {
            format!(
                "unreferenced object 0xffff888004b3c000 (size 64):\n  comm \"a\u{1b}[2J\", pid 60, jiffies 4294901234\n  \
                 backtrace (crc 0):\n    [<ffffffff81000001>] __kmalloc_noprof+0x1/0x2\n    [<ffffffff81000002>] {function}+0x1/0x2\n    \
                 [<ffffffff81000003>] virtio_dev_probe+0x1/0x2\n"
            )
        };
        let (reports, left_out) = match self.fault {
            Fault::SilentOverLeaks => {
                self.silent = true;
                return;
            }
            Fault::CannotTellLeaks => return self.done(1, id, Some("cannot write \"scan\"")),
            Fault::LosesMemory => {
                let functions = ["gpiochip_add_data_with_key", "shared_handle_open", "gpiochip_add_data_with_key"];
                (functions.map(report).to_vec(), 2)
            }
            _ => (Vec::new(), 0),
        };
        let (began_tsc, ended_tsc) = (self.now_ns, self.now_ns + 6_000_000_000);
        self.say(6000, FromGuest::Leaks { id, began_tsc, ended_tsc, reports, left_out });
    }

    fn hello(&self) -> FromGuest {
        FromGuest::Hello {
            version: if self.fault == Fault::Foreign { VERSION + 1 } else { VERSION },
            kernel_release: "6.12.0-fake".into(),
            cpus: 2,
            tsc: self.now_ns,
            since_boot_ns: 1,
            calibration_ns: self.calibration_ns(),
            tick_ns: 4_000_000,
            preemption: Some("voluntary".into()),
            modules: self.modules.clone(),
            leaks: matches!(
                self.fault,
                Fault::LosesNothing | Fault::LosesMemory | Fault::CannotTellLeaks | Fault::SilentOverLeaks
            ),
        }
    }

    /// Runs a program, which does what it is called.
    fn run_program(&mut self, id: u64, program: Vec<String>) {
        let end = match program.first().map(String::as_str) {
            Some("/bin/missing") => return self.done(1, id, Some("cannot run /bin/missing in the guest: ENOENT")),
            Some("/bin/hang" | "/bin/loop") => {
                self.program = Some(program);
                return;
            }
            Some("/bin/crash") => ProgramEnd::Killed("SIGSEGV".into()),
            Some("/bin/one") => ProgramEnd::Exited(1),
            _ => ProgramEnd::Exited(0),
        };
        let output = "one\u{1b}[2J\ntwo\n".to_owned();
        let (began_tsc, ended_tsc, output_bytes) = (self.now_ns, self.now_ns + 5_000_000, output.len() as u64);
        self.say(5, FromGuest::ProgramEnded { id, began_tsc, ended_tsc, end, output, output_bytes });
    }
}

impl Guest for FakeGuest {
    fn prepare(&mut self) {
        assert_eq!(self.boots, 0);
    }

    fn boot(&mut self) -> Result<Started, GuestError> {
        assert!(!self.running, "booted while it runs");
        self.running = true;
        self.silent = false;
        self.plugged.clear();
        self.queue.clear();
        (self.is_fork, self.held) = (self.kept.is_some(), false);
        if let Some(introduction) = self.kept.clone() {
            return Ok(Started::Forked { snapshot: "fake".into(), introduction });
        }
        self.boots += 1;
        self.after(5, GuestEvent::Console(b"Linux version 6.12.0-fake\n".to_vec()));
        match self.fault {
            Fault::Mute | Fault::Chatters => {}
            Fault::BreaksInBoot(times) if self.boots <= times => {
                self.after(6, GuestEvent::Console(OOPS.to_vec()));
                self.after(7, GuestEvent::Ended(EndCause::Reset));
            }
            Fault::WarnsInBoot => {
                self.after(6, GuestEvent::Console(WARNING.to_vec()));
                self.after(100, GuestEvent::Message(self.hello()));
            }
            Fault::EndsInBoot => self.after(50, GuestEvent::Ended(EndCause::TripleFault)),
            Fault::Floods => {
                for ms in 0..70 {
                    self.after(ms, GuestEvent::Console(vec![b'x'; 1 << 20]));
                }
            }
            _ => self.after(100, GuestEvent::Message(self.hello())),
        }
        Ok(Started::Booted)
    }

    fn is_to_be_kept(&self) -> bool {
        self.keeps
    }

    fn hold(&mut self) -> Result<(), GuestError> {
        assert!(self.running && self.keeps && !self.held);
        self.held = true;
        if self.fault == Fault::WarnsLate {
            self.after(0, GuestEvent::Console(OOPS.to_vec()));
        }
        Ok(())
    }

    fn keep(&mut self, introduction: Vec<FromGuest>, boot_ns: u64) -> Result<bool, GuestError> {
        assert!(self.running && self.held && boot_ns > 0 && introduction.len() == 2);
        self.kept = Some(introduction);
        self.notes.push("kept".into());
        self.stop();
        Ok(true)
    }

    fn settle(&mut self) {
        assert!(self.running && self.is_fork);
        self.settled += 1;
    }

    fn distrust(&mut self, reason: &str) {
        (self.keeps, self.kept) = (false, None);
        self.notes.push(format!("distrusted: {reason}"));
    }

    fn notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    fn publish(&mut self) {
        assert!(!self.running);
        self.published = self.settled;
    }

    fn migrate(&mut self) -> Result<bool, GuestError> {
        assert!(self.running, "migrated while it does not run");
        if self.fault == Fault::MigrationFails {
            return Err(GuestError::Machine("the guest cannot be migrated: no".into()));
        }
        self.migrations += 1;
        Ok(true)
    }

    fn holdings(&self) -> Option<Holdings> {
        Some(Holdings { descriptors: u64::from(self.boots), threads: 1, mappings: 1, resident_bytes: 4096 })
    }

    fn stop(&mut self) {
        self.running = false;
        self.queue.clear();
    }

    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    fn port(&self, device: usize) -> PciAddress {
        PciAddress(format!("0000:00:{:02x}.0", device + 1))
    }

    fn plug(&mut self, device: usize) -> Result<(), GuestError> {
        assert!(self.plugged.insert(device), "plugged twice");
        self.node_appears(120, device);
        Ok(())
    }

    fn send_nmi(&mut self) {
        self.after(1, GuestEvent::Console(NMI_PANIC.to_vec()));
        self.after(2, GuestEvent::Ended(EndCause::Reset));
    }

    fn look(&mut self) -> Result<Option<Sight>, GuestError> {
        if !matches!(self.fault, Fault::RemovalSpins | Fault::RemovalHangs(_)) {
            return Ok(None);
        }
        let remover: Vec<String> = ["vp_reset+0x3d/0x60", "virtio_pci_remove+0x1f/0x50", "pciehp_ist+0x9c/0x110"]
            .iter()
            .map(|&frame| frame.to_owned())
            .collect();
        let task = |tid, comm: &str, state, stack: Vec<String>| StackedTask {
            pid: tid,
            tid,
            comm: comm.into(),
            state,
            switches: 5,
            stack,
            hammer: None,
            operation: None,
        };
        Ok(Some(Sight {
            processors: vec![Processor {
                cpu: 0,
                doing: Doing::KernelInterruptsOff,
                task: Some(Executed { tid: 62, comm: "irq/25-pciehp".into() }),
                ip: 0xffff_ffff_8100_003d,
                stack: remover.clone(),
            }],
            tasks: vec![task(1, "init", 'R', Vec::new()), task(62, "irq/25-pciehp", 'R', remover)],
            ticks: Some(7),
            has_symbols: true,
            ..Sight::default()
        }))
    }

    fn surprise_remove(&mut self, device: usize) -> Result<(), GuestError> {
        assert!(self.plugged.remove(&device), "pulled out twice");
        let slot = u8::try_from(device).unwrap();
        self.after(0, GuestEvent::Slot { slot, what: SlotChange::Interrupt });
        self.after(1, GuestEvent::Slot { slot, what: SlotChange::EventsCleared { presence: true, link: true } });
        if let Some(ms) = self.removal() {
            self.uevent(ms, device, "remove", "pci", None);
        }
        Ok(())
    }

    fn send(&mut self, message: &ToGuest) -> Result<(), GuestError> {
        assert!(self.running, "sent to a stopped guest");
        self.sent.push(message.clone());
        if self.silent {
            return Ok(());
        }
        match message.clone() {
            ToGuest::Configure { .. } => match self.fault {
                Fault::Deaf => {}
                Fault::BeginsUnasked => {
                    self.begun(1, &[]);
                    self.say(1, FromGuest::Configured { probes_failed: Vec::new() });
                    self.say(1, self.hello());
                }
                Fault::Lies => {
                    for ms in 0..40 {
                        self.after(ms, GuestEvent::Malformed { reason: "no JSON".into(), excerpt: "<<<".into() });
                    }
                }
                Fault::Invents => {
                    for id in 1000..1040 {
                        self.done(1, id, None);
                    }
                }
                Fault::AgentEnds => {
                    self.say(1, FromGuest::Configured { probes_failed: Vec::new() });
                    let panic = b"[ 1.0] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000000\n";
                    self.after(2, GuestEvent::Console(panic.to_vec()));
                    self.after(3, GuestEvent::Ended(EndCause::Reset));
                }
                _ => self.say(
                    1,
                    FromGuest::Configured {
                        probes_failed: vec![plugstorm_wire::ProbeFailure {
                            name: "slot_end".into(),
                            error: "ENOENT".into(),
                        }],
                    },
                ),
            },
            ToGuest::Begin { hammers, points, .. } => {
                (self.targets, self.armed) = (hammers, points);
                match self.fault {
                    Fault::NeverBegins => {}
                    Fault::ForkNeverBegins if self.is_fork => {}
                    Fault::ForkBreaks if self.is_fork => {
                        self.after(1, GuestEvent::Console(OOPS.to_vec()));
                        self.after(2, GuestEvent::Ended(EndCause::Reset));
                    }
                    Fault::BeginsTwice => {
                        self.begun(1, &[]);
                        self.begun(2, &[]);
                    }
                    Fault::BeginsWithProblems => self.begun(1, &["no clock", "no \u{1b}[2Jlimit", "no clock"]),
                    _ => self.begun(1, &[]),
                }
            }
            ToGuest::StartHammer { id, hammer, .. }
                if matches!(self.fault, Fault::StartFails | Fault::OopsesAndRefuses) =>
            {
                if self.fault == Fault::OopsesAndRefuses {
                    self.after(0, GuestEvent::Console(OOPS.to_vec()));
                }
                self.done(1, id, Some(&format!("/dev/gpiochip0: EACCES for {hammer}")));
            }
            ToGuest::StartHammer { id, hammer, .. } => {
                let (tsc, node) = (self.now_ns, "/dev/gpiochip0".into());
                self.say(1, FromGuest::HammerStarted { id, tsc, hammer, node, descriptors: 1, threads: 2 });
            }
            ToGuest::StopHammer { id, hammer, .. } => self.report(id, hammer),
            ToGuest::Unbind { id, .. } if self.fault == Fault::UnbindRefused => {
                self.done(1, id, Some("/sys/bus/virtio/drivers/gpio/unbind: ENODEV"));
            }
            ToGuest::Unbind { id, .. } => {
                if let Some(ms) = self.removal() {
                    self.done(ms, id, None);
                }
            }
            ToGuest::Remove { id, .. } => {
                if let Some(ms) = self.removal() {
                    self.uevent(ms, 0, "remove", "pci", None);
                    self.done(ms + 1, id, None);
                }
            }
            ToGuest::Bind { id, .. } | ToGuest::Rescan { id, .. } => {
                self.done(1, id, None);
                self.node_appears(2, 0);
            }
            ToGuest::DumpTasks { id } => self.tasks(id),
            ToGuest::ReadPoints { id } => self.read_points(id),
            ToGuest::ShowLocks { id } => match self.locks.clone() {
                // The console is slower than the agent's port.
                Some(list) => {
                    self.done(1, id, None);
                    self.after(300, GuestEvent::Console(list));
                }
                None => self.done(1, id, Some("this kernel keeps no account\u{1b} of locks")),
            },
            ToGuest::FindLeaks { id } => self.find_leaks(id),
            ToGuest::RunProgram { id, program } => self.run_program(id, program),
            ToGuest::FlushTrace { .. } if self.fault == Fault::SilentAtTheEnd => self.silent = true,
            ToGuest::FlushTrace { .. } if self.fault == Fault::FaultsAtTheEnd => {
                self.after(1, GuestEvent::Ended(EndCause::TripleFault));
            }
            ToGuest::FlushTrace { id } | ToGuest::Ping { id } => self.done(1, id, None),
            _ => {}
        }
        Ok(())
    }

    fn next_event(&mut self, deadline_ns: u64) -> Option<Stamped> {
        if self.queue.first().is_some_and(|next| next.t_ns <= deadline_ns) {
            let next = self.queue.remove(0);
            self.now_ns = self.now_ns.max(next.t_ns);
            return Some(next);
        }
        if self.fault == Fault::Chatters && self.running {
            self.now_ns += 1_000_000;
            return Some(Stamped { t_ns: self.now_ns, event: GuestEvent::Console(b"again\n".to_vec()) });
        }
        self.now_ns = self.now_ns.max(deadline_ns);
        None
    }

    fn tsc_to_ns(&self, tsc: u64) -> Option<u64> {
        Some(tsc)
    }

    fn tsc_khz(&self) -> u32 {
        1_000_000
    }
}

/// What a kernel with `unknown_nmi_panic` says to a non-maskable interrupt while it spins.
const NMI_PANIC: &[u8] = b"\
[   20.000001] Uhhuh. NMI received for unknown reason 20 on CPU 0.
[   20.000002] Kernel panic - not syncing: NMI: Not continuing
[   20.000003] CPU: 0 UID: 0 PID: 62 Comm: irq/25-pciehp Not tainted 6.12.117+deb12-amd64 #1
[   20.000004] Call Trace:
[   20.000005]  <NMI>
[   20.000006]  dump_stack_lvl+0x27/0xa0
[   20.000007]  panic+0x118/0x2f7
[   20.000008] RIP: 0010:vp_reset+0x3d/0x60
[   20.000009]  </NMI>
[   20.000010]  virtio_reset_device+0x1a/0x40
[   20.000011] Rebooting in 1 seconds..
";

/// A kernel that goes on.
const WARNING: &[u8] = b"\
[   11.000001] ------------[ cut here ]------------
[   11.000002] WARNING: CPU: 0 PID: 62 at drivers/gpio/gpiolib.c:100 gpiochip_remove+0x12/0x160
[   11.000003] CPU: 0 UID: 0 PID: 62 Comm: irq/25-pciehp Not tainted 6.12.117+deb12-amd64 #1
[   11.000004] RIP: 0010:gpiochip_remove+0x12/0x160
[   11.000005] Call Trace:
[   11.000006]  <TASK>
[   11.000007]  virtio_gpio_remove+0x1f/0x50
[   11.000008]  </TASK>
[   11.000009] ---[ end trace 0000000000000000 ]---
";

/// As a kernel under software emulation printed it, shortened: `EFLAGS` of what the timer interrupted has no 0x200.
const IMPOSSIBLE: &[u8] = b"\
[   37.341105] ======================================================
[   37.357410] WARNING: possible circular locking dependency detected
[   37.382871] 6.12.117-debug-60fd0722 #1 Tainted: G           O
[   37.386723] ------------------------------------------------------
[   37.403208] irq/25-pciehp/38 is trying to acquire lock:
[   37.537892] ffff88801a42b5d8 (hrtimer_bases.lock){-.-.}-{2:2}, at: hrtimer_interrupt+0xd8/0x7d0
[   39.040893] Call Trace:
[   39.041329]  <IRQ>
[   39.049195]  lock_acquire+0x17a/0x4b0
[   39.060901]  hrtimer_interrupt+0xd8/0x7d0
[   39.061049]  asm_sysvec_apic_timer_interrupt+0x16/0x20
[   39.061203] RIP: 0010:timekeeping_update+0x48b/0x660
[   39.061285] Code: 48 89 05 58 ff 07 01 48 8b 05 21 ff 07 01
[   39.061533] RSP: 0018:ffffc90000007d28 EFLAGS: 00000006
[   39.068969]  timekeeping_advance+0x44b/0x740
[   39.069256]  </IRQ>
[   39.086212]  </TASK>
";

/// As a kernel under software emulation printed it.
const OOPS: &[u8] = b"\
[   11.551516] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI
[   11.552320] CPU: 1 UID: 0 PID: 1 Comm: init Tainted: G           OE      6.12.117+deb12-amd64 #1
[   11.560268] RIP: 0010:ttwu_do_activate+0x8d/0x220
[   11.561990] Call Trace:
[   11.563238]  <IRQ>
[   11.563683]  try_to_wake_up+0x263/0x680
[   11.563820]  kick_pool+0x65/0x130
[   11.565578]  </TASK>
[   11.566210] ---[ end trace 0000000000000000 ]---
[   11.567433] Kernel panic - not syncing: Fatal exception in interrupt
";

/// A journal in memory, that can be full.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) events: Vec<Event>,
    pub(super) console: Vec<u8>,
    pub(super) full_after: Option<usize>,
}

impl Journal for Memory {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        if self.full_after.is_some_and(|most| self.events.len() >= most) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.events.push(event.clone());
        Ok(())
    }

    fn console(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.console.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn events_dropped(&self) -> u64 {
        0
    }

    fn console_dropped(&self) -> u64 {
        0
    }
}
