//! Stacks of tasks, twice, as a guest sends them: read as who waits for whom.
//!
//! A line that begins with `@` begins a task: its letter of state, its hammer's call. The others are its stack. A line `=`
//! begins the second dump. The same lines are the console that lockdep's list of locks is looked for in.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plugstorm_observe::hang::{Clock, DomainBalance, Evidence, LockReader, StackedTask, explain};

fn tasks(dump: &str) -> Vec<StackedTask> {
    let mut tasks: Vec<StackedTask> = Vec::new();
    for line in dump.lines() {
        if let Some(head) = line.strip_prefix('@') {
            let number = u32::try_from(tasks.len()).unwrap_or_default();
            tasks.push(StackedTask {
                pid: number / 2,
                tid: number,
                comm: head.chars().take(16).collect(),
                state: head.chars().next().unwrap_or('D'),
                switches: u64::from(number) % 3,
                stack: Vec::new(),
                hammer: head.contains('h').then(|| "pair".to_owned()),
                operation: head.contains('r').then(|| "read".to_owned()),
            });
        } else if let Some(task) = tasks.last_mut() {
            task.stack.push(line.to_owned());
        }
    }
    tasks
}

fuzz_target!(|text: &str| {
    let (first, second) = text.split_once("\n=\n").unwrap_or((text, ""));
    let (first, second) = (tasks(first), tasks(second));
    let count = text.len() as u64;
    let balances = [DomainBalance { name: "lines".into(), entered: [count, u64::MAX], left: [1, count] }];
    let clock = Some(Clock { now_ticks: count << 32, tsc_khz: count % 7 });
    let mut locks = LockReader::default();
    let listed = text.lines().filter(|line| locks.line(line)).count() as u64;
    assert!(locks.ended() <= listed && locks.holders().len() as u64 <= listed);
    let locks = locks.holders();
    let evidence = Evidence { first: &first, second: &second, open: &[], clock, balances: &balances, locks };
    let _ = explain(&evidence);
});
