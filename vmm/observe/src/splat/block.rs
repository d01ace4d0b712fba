//! One report while it is being printed: its lines, and whether it has ended.
//!
//! A report is over
//! - with the first line of its caller after the mark by which kernels end reports (`---[ end trace`, KASAN's second line
//!   of `=`, `---[ end Kernel panic`) that is no part of what may follow the mark: the registers once more, a panic;
//! - where the kernel prints no mark (lockdep, hung tasks, stalls): when [`IDLE_LINES`] lines of its caller in a row say
//!   nothing that belongs to a report. Before its stack has come, it is given [`IDLE_LINES_BEFORE_STACK`];
//! - when it is as long as reports are kept;
//! - in any case, when others have printed [`STALE_LINES`] lines ([`STALE_LINES_AFTER_END`] after the mark) since its last.

use super::MAX_TEXT_BYTES;
use super::frames::{Item, item};
use super::line::{Caller, Line};
use super::report::SplatKind;
use super::rules::{From, Match, Note};

/// Lines kept of one report.
const MAX_LINES: usize = 1500;
/// Lines of its caller in a row that say nothing of a report, and end it.
const IDLE_LINES: usize = 20;
/// The same before its stack has come, which other output may part from the first line.
const IDLE_LINES_BEFORE_STACK: usize = 200;
/// Lines of others since its last, after which it is not waited for any longer.
const STALE_LINES: u64 = 1000;
/// The same after its end was marked: a panic over it would have come.
const STALE_LINES_AFTER_END: u64 = 100;

/// The first lines of dumps that are no report: asked for by fault injection, or a note of a page fault handler.
const BENIGN_DUMPS: [&str; 2] = ["FAULT_INJECTION: forcing a failure", "FAULT_FLAG_ALLOW_RETRY missing"];
/// How lines begin that a kernel out of memory prints when it kills a task.
const KILLS: [&str; 2] = ["Out of memory: Kill", "lowmemorykiller: Killing"];
/// Tasks whose end is the end of the test: what follows says nothing about the kernel.
const DRIVERS: [&str; 4] = ["syz-fuzzer", "syz-execprog", "sshd", "plugstorm-agent"];

/// How lines of a report begin, apart from stacks, indented lines and rules made of `=` and `-`.
#[rustfmt::skip]
const OF_A_REPORT: &[&str] = &[
    // Who and where.
    "CPU: ", "CPU ", "Hardware name:", "Modules linked in:", "Workqueue:", "Tainted:", "Process ", "task:", "Stack:", "note: ",
    "Comm: ", "Internal error", "Oops", "Call Trace", "Call trace", "Backtrace", "stack backtrace", "PC is at", "LR is at",
    // Registers: x86, arm, arm64, riscv, powerpc, s390.
    "RIP:", "RSP:", "RAX:", "RDX:", "RBP:", "R10:", "R13:", "EIP:", "EAX:", "ESI:", "FS:", "CS:", "DS:", "CR2:", "DR0:", "DR3:",
    "PKRU:", "ORIG_RAX:", "Code:", "pc :", "lr :", "sp :", "pstate:", "Flags:",
    "Control:", "ESR", "FAR", "Mem abort", "Data abort", "swapper pgtable", "[ffff", "[0000", "PGD", "epc :", "ra :", "gp :",
    "status:", "NIP", "LR ", "GPR", "Krnl PSW", "Krnl GPRS", "Krnl Code", "Last Breaking",
    // Sanitizers.
    "Read of size", "Write of size", "Read at", "Write at", "Allocated", "Freed", "Last potentially", "Second to last",
    "The buggy", "which belongs", "freed ", "allocated ", "Memory state", "page:", "page last", "page dumped", "page_owner",
    "raw:", "flags:", "head:", "Uninit was", "Local variable", "Bytes ", "Memory access", "Data copied", "value changed",
    "read to", "write to", "read-write", "Reported by", "race at", "kfence-", "hex dump", "backtrace", "comm \"",
    "unreferenced object", "index ", "shift exponent", "signed integer",
    // Locks.
    "other info", "but task", "but now in", "which lock", "the existing", "the dependencies", "is trying", "and this task",
    "and interrupt", "chain exists", "more than one", "lock(", "locks held", "no locks held", "Showing all locks",
    "irq event stamp", "hardirqs last", "softirqs last", "{", "[<", "INITIAL USE", "Preemption disabled", "in_atomic",
    "preempt_count", "RCU nest", "ODEBUG", "refcount_t",
    // Stalls and hangs.
    "rcu:", "rcu_", "NMI backtrace", "Sending NMI", "Showing busy", "Showing backtraces", "workqueue ", "pool ", "task ",
    "\"echo 0", "Blocked by", "Kernel Offset", "Kernel panic", "Rebooting in", "Shutting down", "Dumping ftrace", "Disabling lock",
    "Fixing recursive", "PHYS_OFFSET", "CPU features", "Memory Limit", "SMP: ",
];

/// A report that has begun.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) opened_by: Match,
    pub(super) caller: Option<Caller>,
    pub(super) start_line: u64,
    /// Its last line, of those that say something of it.
    pub(super) end_line: u64,
    /// The first is the line that opened it.
    pub(super) lines: Vec<String>,
    pub(super) items: Vec<(usize, Item)>,
    pub(super) frames: usize,
    pub(super) panicked: bool,
    pub(super) dropped: bool,
    /// A dump that is no report was printed inside before the stack was complete: the stack may be its.
    pub(super) foreign: bool,
    /// Another fault was printed inside before the stack was complete.
    pub(super) faulted: bool,
    /// The program that drives the test was killed inside it.
    pub(super) driver_killed: bool,
    /// It has sent interrupts to other CPUs: what they print then is about it.
    asks_cpus: bool,
    text_bytes: usize,
    /// The last line of its caller, whatever it said.
    last_line: u64,
    /// How many of its lines to keep: up to the last that says something of it.
    kept: usize,
    idle: usize,
    /// The kernel has marked its end: a fault from here on is another one.
    complete: bool,
}

impl Block {
    pub(super) fn new(opened_by: Match, line: &Line) -> Self {
        let mut block = Self {
            panicked: opened_by.rule.note == Note::Panic || is_panic(&line.text),
            complete: opened_by.rule.note == Note::NoStack,
            opened_by,
            caller: line.caller,
            start_line: line.number,
            end_line: line.number,
            lines: Vec::new(),
            items: Vec::new(),
            frames: 0,
            dropped: false,
            foreign: false,
            faulted: false,
            driver_killed: false,
            asks_cpus: false,
            text_bytes: 0,
            last_line: line.number,
            kept: 0,
            idle: 0,
        };
        block.push(line, true);
        block
    }

    fn rule_note(&self) -> Note {
        self.opened_by.rule.note
    }

    /// Whether a line of that caller is its own, if no other report has it.
    pub(super) fn hears(&self, caller: Option<Caller>) -> bool {
        self.caller == caller || self.asks_cpus && matches!(caller, Some(Caller::Cpu(_)))
    }

    /// Whether a line is the first once more: one place has a line for each function that the compiler put into another.
    pub(super) fn is_repeated_by(&self, found: &Match) -> bool {
        std::ptr::eq(self.opened_by.rule, found.rule)
            && self.lines.last().is_some_and(|line| line.ends_with("[inline]"))
    }

    fn is_full(&self) -> bool {
        self.lines.len() >= MAX_LINES || self.text_bytes >= MAX_TEXT_BYTES
    }

    /// Whether a line that could begin a report is part of this one.
    pub(super) fn takes(&self, note: Note, kind: SplatKind) -> bool {
        match note {
            // What is a report by itself does not go under the name of a line that may be none.
            Note::Panic | Note::Continued | Note::FollowUp if self.is_mere_note() => false,
            Note::Panic => true,
            Note::Continued | Note::FollowUp if self.takes_fault(kind) => true,
            // A note of the kernel's inside a report, unless the report is no more than such a note itself.
            Note::Tentative if self.is_open() && self.rule_note() != Note::Tentative => true,
            _ => {
                self.panicked
                    || self.is_reboot() && note == Note::NoStack
                    || self.rule_note() == Note::Panic
                    || self.is_cut_by_fault(kind)
            }
        }
    }

    /// Whether it is a line that is a report only with a stack, and has none: a single frame may be anything's.
    pub(super) fn is_mere_note(&self) -> bool {
        self.rule_note() == Note::Tentative && self.frames < 2
    }

    /// It is not complete, or the machine is going down over it.
    fn is_open(&self) -> bool {
        self.panicked || !self.complete
    }

    /// Whether a fault belongs to it. Where the kernel marks no end, it may be over as soon as its stack has come.
    fn takes_fault(&self, kind: SplatKind) -> bool {
        let more_of_it = kind == SplatKind::Leak && self.opened_by.rule.kind == kind;
        self.panicked || !self.complete && (self.frames == 0 || self.has_end_mark() || more_of_it)
    }

    /// Whether the kernel marks the end of what begins so: of what goes through `oops_end()` or `__warn()`, and of the sanitizers'.
    fn has_end_mark(&self) -> bool {
        use SplatKind as Kind;
        let rule = self.opened_by.rule;
        match rule.kind {
            Kind::Lockdep | Kind::Hang | Kind::AtomicSleep | Kind::Leak | Kind::Bug | Kind::Warning | Kind::Unknown => {
                matches!(rule.from, From::Stack | From::Object | From::Entry)
            }
            _ => true,
        }
    }

    /// A fault while lockdep was printing: the report's end is missing because of it.
    fn is_cut_by_fault(&self, kind: SplatKind) -> bool {
        let fault = matches!(kind, SplatKind::MemorySafetyBug | SplatKind::NullPointerDereference);
        self.opened_by.rule.kind == SplatKind::Lockdep && self.frames == 0 && fault
    }

    /// A dump that is no report begins inside this one.
    pub(super) fn intrude(&mut self) {
        self.foreign |= self.frames == 0;
    }

    /// Another fault, before this one is told.
    pub(super) fn fault(&mut self) {
        self.faulted |= self.frames == 0;
    }

    /// The machine goes down: what it prints about that is the last of this report.
    pub(super) fn panic(&mut self) {
        self.panicked = true;
        self.complete = false;
    }

    /// Whether a line of its caller that fits no row is not its own any more.
    pub(super) fn ended_before(&self, text: &str) -> bool {
        self.complete && item(text).is_none() && !says_something(text)
    }

    /// Whether nothing that belongs to it has come for long enough.
    pub(super) fn is_over(&self, number: u64) -> bool {
        let waited =
            if self.frames > 0 || self.rule_note() == Note::Tentative { IDLE_LINES } else { IDLE_LINES_BEFORE_STACK };
        let stale = if self.complete { STALE_LINES_AFTER_END } else { STALE_LINES };
        self.idle >= waited || self.is_full() || number.saturating_sub(self.last_line) > stale
    }

    /// Takes a line of its caller, which fits a row or not.
    pub(super) fn push(&mut self, line: &Line, fits: bool) {
        self.dropped |= line.dropped;
        self.last_line = line.number;
        let found = item(&line.text);
        if fits || found.is_some() || says_something(&line.text) {
            self.idle = 0;
        } else {
            self.idle += 1;
        }
        if begins_benign_dump(&line.text) {
            self.intrude();
        }
        self.driver_killed |= KILLS.iter().any(|kill| line.text.starts_with(kill))
            && DRIVERS.iter().any(|driver| line.text.contains(driver));
        self.asks_cpus |= line.text.starts_with("Sending NMI from CPU");
        self.complete |= self.is_end(&line.text);
        if self.is_full() {
            return;
        }
        if let Some(found) = found {
            self.frames += usize::from(matches!(found, Item::Frame(_)));
            self.items.push((self.lines.len(), found));
        }
        self.text_bytes += line.text.len() + 1;
        self.lines.push(line.text.clone());
        if self.idle == 0 {
            self.kept = self.lines.len();
            self.end_line = line.number;
        }
    }

    fn is_end(&self, text: &str) -> bool {
        if self.panicked {
            return text.starts_with("---[ end Kernel panic") || text.starts_with("Rebooting in ");
        }
        self.frames > 0 && (text.starts_with("---[ end trace") || text.starts_with("======"))
    }

    /// Its lines, up to the last that says something of it.
    pub(super) fn text(&self) -> String {
        self.lines.get(..self.kept).unwrap_or_default().join("\n")
    }

    pub(super) fn is_reboot(&self) -> bool {
        self.opened_by.rule.kind == SplatKind::Reboot
    }

    /// It began with a cut-off line that the kernel has announced to print again.
    pub(super) fn is_one_line(&self) -> bool {
        self.lines.len() <= 1
    }
}

fn is_panic(text: &str) -> bool {
    text.contains("Kernel panic - not syncing")
}

/// Whether a dump begins that is no report.
pub(super) fn begins_benign_dump(text: &str) -> bool {
    BENIGN_DUMPS.iter().any(|dump| text.starts_with(dump))
}

/// Whether a line that is no part of a stack looks like part of a report.
fn says_something(text: &str) -> bool {
    text.is_empty()
        || text.starts_with([' ', '\t', '#', '=', '-', '<'])
        || OF_A_REPORT.iter().any(|start| text.starts_with(start))
        || is_register(text)
        || text.contains("held by ")
        || text.contains("locks still held")
        || text.contains("ainted")
}

/// `x29: ffff800080003c10`, `r10: 00000000`, `x9 : 0000`.
fn is_register(text: &str) -> bool {
    let name = text.split(':').next().unwrap_or_default().trim_end();
    let number = name.strip_prefix(['x', 'r']).unwrap_or_default();
    text.len() > name.len() && (1..=2).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit())
}
