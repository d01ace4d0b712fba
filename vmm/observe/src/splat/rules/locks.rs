//! Lockdep, and other checks of how locks are used.

use super::super::report::SplatKind as Kind;
use super::{From, Note, Rule, rule};

const DEADLOCK: [&str; 2] = ["possible deadlock in {frame}", ""];

#[rustfmt::skip]
pub(super) const RULES: &[Rule] = &[
    rule(r"(?:WARNING|INFO): possible circular locking dependency detected", DEADLOCK,
        Kind::Lockdep, From::LockPlace, Note::Plain, "WARNING: possible circular locking dependency detected"),
    rule(r"(?:WARNING|INFO): possible (?:irq|\S*) ?lock inversion dependency detected", DEADLOCK,
        Kind::Lockdep, From::LockPlace, Note::Plain, "[ INFO: possible irq lock inversion dependency detected ]"),
    rule(r"(?:WARNING|INFO): (?:SOFTIRQ|HARDIRQ|RECLAIM_FS|SOFTIRQ-READ|HARDIRQ-READ)\S* -> \S+ lock order detected", DEADLOCK,
        Kind::Lockdep, From::AnyTrace, Note::Plain, "[ INFO: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected ]"),
    rule(r"(?:WARNING|INFO): possible recursive locking detected", DEADLOCK,
        Kind::Lockdep, From::LockPlace, Note::Plain, "WARNING: possible recursive locking detected"),
    rule(r"WARNING: Nested lock was not taken|WARNING: nested lock was not taken|BUG: Nested lock was not taken", ["WARNING: nested lock was not taken in {frame}", ""],
        Kind::Lockdep, From::LockPlace, Note::Plain, "WARNING: Nested lock was not taken"),
    rule(r"(?:WARNING|INFO): inconsistent lock state", ["inconsistent lock state in {frame}", ""],
        Kind::Lockdep, From::LockPlace, Note::Plain, "[ INFO: inconsistent lock state ]"),
    rule(r"INFO: suspicious RCU usage", ["INFO: suspicious RCU usage in {frame}", ""],
        Kind::Unknown, From::Trace, Note::Plain, "[ INFO: suspicious RCU usage. ]"),
    rule(r"WARNING: suspicious RCU usage", ["WARNING: suspicious RCU usage in {frame}", ""],
        Kind::Lockdep, From::Trace, Note::Plain, "WARNING: suspicious RCU usage"),
    rule(r"(?P<level>WARNING|BUG): bad (?P<what>unlock balance|contention) detected", ["{level}: bad {what} in {frame}", ""],
        Kind::Lockdep, From::LockPlace, Note::Plain, "[ BUG: bad unlock balance detected! ]"),
    rule(r"(?P<level>WARNING|BUG): (?P<what>lock held when returning to user space|lock held at task exit time)", ["{level}: {what} in {frame}", ""],
        Kind::Lockdep, From::LockPlace, Note::NoStack, "WARNING: lock held when returning to user space!"),
    rule(r"(?P<level>WARNING|BUG): (?P<what>still has locks held|held lock freed)", ["{level}: {what} in {frame}", ""],
        Kind::Lockdep, From::LockPlace, Note::Plain, "[ BUG: held lock freed! ]"),
    rule(r"(?P<level>WARNING|BUG): .{1,64} still has locks held", ["{level}: still has locks held in {frame}", ""],
        Kind::Lockdep, From::LockPlace, Note::Plain, "WARNING: syz-executor286/6054 still has locks held!"),
    rule(r"(?:WARNING|BUG): [Ii]nvalid wait context", ["WARNING: locking bug in {frame}", ""],
        Kind::Lockdep, From::Trace, Note::Plain, "[ BUG: Invalid wait context ]"),
    rule(r"INFO: trying to register non-static key", ["INFO: trying to register non-static key in {frame}", ""],
        Kind::Unknown, From::Trace, Note::Plain, "INFO: trying to register non-static key."),
    rule(r"BUG: (?P<what>MAX_[A-Z_]+) too low", ["BUG: {what} too low!", ""],
        Kind::Unknown, From::None, Note::NoStack, "BUG: MAX_STACK_TRACE_ENTRIES too low!"),
    rule(r"BUG: (?P<what>(?:spin|rw)lock [a-zA-Z ]+?) on CPU", ["BUG: {what} in {frame}", ""],
        Kind::Lockdep, From::Trace, Note::Plain, "BUG: spinlock already unlocked on CPU#1, migration/1/12"),
    rule(r"BUG: workqueue leaked (?:lock or atomic|atomic, lock or RCU)", ["BUG: workqueue leaked lock or atomic in {frame}", ""],
        Kind::Unknown, From::LastFunction, Note::Plain, "BUG: workqueue leaked lock or atomic: kworker/0:1/0x00000000/24"),
    rule(r"BUG: sleeping function called from invalid context", ["BUG: sleeping function called from invalid context in {frame}", ""],
        Kind::AtomicSleep, From::Trace, Note::Plain, "BUG: sleeping function called from invalid context at lib/usercopy.c:25"),
    rule(r"BUG: scheduling while atomic", ["BUG: scheduling while atomic in {frame}", ""],
        Kind::AtomicSleep, From::Trace, Note::Plain, "BUG: scheduling while atomic: syz-executor0/19425/0x00000000"),
    rule(r"BUG: using (?P<what>[a-z_]+)\(\) in preemptible", ["BUG: using {what}() in preemptible code in {frame}", ""],
        Kind::Bug, From::Trace, Note::Plain, "BUG: using __this_cpu_read() in preemptible [00000000] code: a/1"),
];
