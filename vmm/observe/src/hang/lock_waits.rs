//! Who waits for whose lock: what lockdep lists, beside the stacks of the same tasks.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::frames::{is_plumbing, wait_frame};
use super::locks::{HeldLock, LockHolder};
use super::stacks::StackedTask;
use crate::place::Place;

/// Tasks, or tasks with the same locks, named in a paragraph.
const MOST_NAMED: usize = 3;
/// Locks of one task named in a paragraph.
const MOST_LOCKS_NAMED: usize = 8;

/// A task that has a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockOwner {
    /// Thread.
    pub tid: u32,
    /// Name.
    pub comm: String,
}

/// A task that waits for a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockWait {
    /// Thread.
    pub tid: u32,
    /// Name.
    pub comm: String,
    /// The lock, and where it is asked for.
    pub lock: HeldLock,
    /// Who has it. Nobody if that task runs: lockdep does not list what those have.
    pub held_by: Vec<LockOwner>,
}

/// Tells the locks that tasks have from those that they wait for.
pub(super) fn part(listed: &[LockHolder], tasks: &BTreeMap<u32, &StackedTask>) -> (Vec<LockHolder>, Vec<LockWait>) {
    let mut holders = listed.to_vec();
    let mut waits = Vec::new();
    for holder in &mut holders {
        let asks = |lock: &HeldLock| tasks.get(&holder.tid).is_some_and(|task| asks_for(task, lock));
        if holder.locks.last().is_some_and(asks)
            && let Some(lock) = holder.locks.pop()
        {
            waits.push(LockWait { tid: holder.tid, comm: holder.comm.clone(), lock, held_by: Vec::new() });
        }
    }
    for wait in &mut waits {
        let has = |holder: &&LockHolder| holder.locks.iter().any(|lock| lock.instance == wait.lock.instance);
        let owners = holders.iter().filter(has).filter(|holder| holder.tid != wait.tid);
        wait.held_by = owners.map(|holder| LockOwner { tid: holder.tid, comm: holder.comm.clone() }).collect();
    }
    holders.retain(|holder| !holder.locks.is_empty());
    (holders, waits)
}

/// Whether a task is inside the call by which it asked for a lock: that call's return address, which lockdep knows it by (`_RET_IP_`),
/// is the innermost place of its stack, or has only waiting inside of it. A stack leaves out the locks' own functions.
fn asks_for(task: &StackedTask, lock: &HeldLock) -> bool {
    if task.state == 'R' {
        return false;
    }
    let Some(at) = Place::parse(&lock.taken_at) else { return false };
    let places = task.stack.iter().map(|frame| Place::parse(frame));
    let outside = places
        .into_iter()
        .find(|place| place.as_ref().is_none_or(|place| *place == at || wait_frame(&place.symbol().name).is_none()));
    outside.flatten() == Some(at)
}

/// Keeps the tasks that have to do with these, through any number of locks.
pub(super) fn concerning(tids: &[u32], holders: &mut Vec<LockHolder>, waits: &mut Vec<LockWait>) {
    let mut concerned: BTreeSet<u32> = tids.iter().copied().collect();
    loop {
        let before = concerned.len();
        for wait in waits.iter() {
            let of_it = || wait.held_by.iter().map(|owner| owner.tid).chain([wait.tid]);
            if of_it().any(|tid| concerned.contains(&tid)) {
                concerned.extend(of_it());
            }
        }
        if concerned.len() == before {
            break;
        }
    }
    holders.retain(|holder| concerned.contains(&holder.tid));
    waits.retain(|wait| concerned.contains(&wait.tid));
}

/// Who holds what, and who waits for it.
pub(super) fn sentences(
    holders: &[LockHolder],
    waits: &[LockWait],
    tasks: &BTreeMap<u32, &StackedTask>,
) -> Vec<String> {
    let mut sentences = Vec::new();
    let mut groups: Vec<(String, Vec<&LockHolder>)> = Vec::new();
    for holder in holders {
        let locks = locks(holder);
        match groups.iter_mut().find(|(of_group, _)| *of_group == locks) {
            Some((_, group)) => group.push(holder),
            None => groups.push((locks, vec![holder])),
        }
    }
    for (locks, group) in groups.iter().take(MOST_NAMED) {
        let who = group.iter().map(|holder| format!("{} ({})", holder.comm, holder.tid));
        let holds = if group.len() == 1 { "holds" } else { "each hold" };
        sentences.push(format!("By lockdep, {} {holds} {locks}.", listed(who, group.len())));
    }
    if groups.len() > MOST_NAMED {
        let others: usize = groups.iter().skip(MOST_NAMED).map(|(_, group)| group.len()).sum();
        sentences.push(format!("{others} more tasks that have to do with it hold locks."));
    }
    for wait in waits.iter().take(MOST_NAMED) {
        sentences.push(sentence(wait, tasks));
    }
    if waits.len() > MOST_NAMED {
        sentences.push(format!("{} more tasks wait for locks.", waits.len() - MOST_NAMED));
    }
    sentences
}

fn sentence(wait: &LockWait, tasks: &BTreeMap<u32, &StackedTask>) -> String {
    let LockWait { tid, comm, lock, held_by } = wait;
    let who = held_by.iter().map(|owner| match tasks.get(&owner.tid).and_then(|task| place(task)) {
        Some(place) => format!("{} ({}), in {place},", owner.comm, owner.tid),
        None => format!("{} ({})", owner.comm, owner.tid),
    });
    let until = match held_by.len() {
        0 => "; no task that sleeps has it".to_owned(),
        1 => format!(" until {} lets go of it", listed(who, 1)),
        more => format!(" until {} let go of it", listed(who, more)),
    };
    format!("{comm} ({tid}) waits in {} for {}{until}.", lock.taken_in, lock.name)
}

/// The innermost function of a stack that does more than wait.
pub(super) fn place(task: &StackedTask) -> Option<String> {
    let functions = task.stack.iter().filter_map(|frame| Some(Place::parse(frame)?.symbol().name));
    functions.into_iter().find(|function| wait_frame(function).is_none() && !is_plumbing(function))
}

fn locks(holder: &LockHolder) -> String {
    let each = holder.locks.iter().map(|lock| format!("{} (taken in {})", lock.name, lock.taken_in));
    let mut named: Vec<_> = each.take(MOST_LOCKS_NAMED).collect();
    if holder.locks.len() > named.len() {
        named.push(format!("{} more", holder.locks.len() - named.len()));
    }
    named.join(", ")
}

/// The first few of them.
fn listed(each: impl Iterator<Item = String>, all: usize) -> String {
    let mut named: Vec<_> = each.take(MOST_NAMED).collect();
    if all > named.len() {
        named.push(format!("{} more", all - named.len()));
    }
    named.join(", ")
}
