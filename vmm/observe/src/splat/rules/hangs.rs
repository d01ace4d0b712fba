//! Tasks and CPUs that get nowhere.

use super::super::report::SplatKind as Kind;
use super::{From, Note, Rule, rule};

const RCU: [&str; 2] = ["INFO: rcu detected stall in {frame}", "stall in {frame}"];

#[rustfmt::skip]
pub(super) const RULES: &[Rule] = &[
    rule(r"INFO: rcu_tasks\S* detected stalls", RCU,
        Kind::Hang, From::Trace, Note::Plain, "INFO: rcu_tasks detected stalls on tasks:"),
    rule(r"INFO: rcu\S* (?:self-)?detected (?:expedited )?stalls?", RCU,
        Kind::Hang, From::Stall, Note::Plain, "rcu: INFO: rcu_sched self-detected stall on CPU"),
    rule(r"INFO: task (?P<comm>.{1,40}?):(?P<pid>[0-9]+) blocked (?:in I/O wait )?(?:on an? \S+ .*)?for more than [0-9]+ seconds", ["INFO: task hung in {frame}", "hang in {frame}"],
        Kind::Hang, From::Trace, Note::Plain, "INFO: task kworker/u4:5:9381 blocked for more than 143 seconds."),
    rule(r"INFO: task (?P<comm>.{1,40}?):(?P<pid>[0-9]+) can't die for more than [0-9]+ seconds", ["INFO: task can't die in {frame}", "hang in {frame}"],
        Kind::Hang, From::Trace, Note::Plain, "INFO: task syz-executor.4:21128 can't die for more than 143 seconds."),
    rule(r"BUG: soft lockup", ["BUG: soft lockup in {frame}", "stall in {frame}"],
        Kind::Hang, From::Stall, Note::Plain, "watchdog: BUG: soft lockup - CPU#0 stuck for 123s! [syz-executor.2:12834]"),
    rule(r"Watchdog detected hard LOCKUP on cpu|NMI watchdog: Watchdog detected hard LOCKUP", ["Watchdog detected hard LOCKUP in {frame}", "stall in {frame}"],
        Kind::Hang, From::Stall, Note::Plain, "watchdog: Watchdog detected hard LOCKUP on cpu 1"),
    rule(r"BUG: workqueue lockup", ["BUG: workqueue lockup", ""],
        Kind::Hang, From::None, Note::NoStack, "BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 31s!"),
    rule(r"unregister_netdevice: waiting for (?P<device>\S+) to become free", ["unregister_netdevice: waiting for DEV to become free", ""],
        Kind::Unknown, From::None, Note::NoStack, "unregister_netdevice: waiting for lo to become free. Usage count = 2"),
];
