//! Held locks, as a kernel with lockdep lists them on its console: at a hung task, at sysrq-d, and at a panic with bit 3 of
//! `panic_print` (`debug_show_all_locks()` of kernel/locking/lockdep.c).

use serde::{Deserialize, Serialize};

use crate::symbol::Symbol;

/// Tasks kept of a list.
const MOST_HOLDERS: usize = 256;
/// Locks kept of a task (`MAX_LOCK_DEPTH` of the kernel).
const MOST_LOCKS: usize = 48;
/// What is kept of a name, in characters.
const MOST_NAME_CHARS: usize = 128;
/// How the list begins.
const BEGINS: &str = "Showing all locks held in the system:";

/// A lock that a task holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldLock {
    /// Its class, as lockdep names it: `&dev->mutex`.
    pub name: String,
    /// Where it is, in hexadecimal: two with the same place are the same lock.
    pub instance: String,
    /// The function that took it.
    pub taken_in: String,
}

/// A task with locks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockHolder {
    /// Thread.
    pub tid: u32,
    /// Name.
    pub comm: String,
    /// In the order in which they were taken. Empty for a task that runs: lockdep does not look at those.
    pub locks: Vec<HeldLock>,
}

/// Reads such lists out of a console's lines.
#[derive(Debug, Default)]
pub struct LockReader {
    inside: bool,
    holders: Vec<LockHolder>,
}

impl LockReader {
    /// Takes a line, with its time stamp and caller if it has them.
    pub fn line(&mut self, line: &str) {
        let text = unstamped(line);
        if text.starts_with(BEGINS) {
            self.inside = true;
            self.holders.clear();
        } else if self.inside && text.starts_with("=====") {
            self.inside = false;
        } else if let Some(holder) = holder(text).filter(|_| self.inside && self.holders.len() < MOST_HOLDERS) {
            self.holders.push(holder);
        } else if let (true, Some(lock), Some(holder)) = (self.inside, lock(text), self.holders.last_mut())
            && holder.locks.len() < MOST_LOCKS
        {
            holder.locks.push(lock);
        }
    }

    /// The last list.
    #[must_use]
    pub fn holders(&self) -> &[LockHolder] {
        &self.holders
    }
}

/// Without log level, time stamp and caller: `<4>[   82.447816][ T4217] `.
fn unstamped(line: &str) -> &str {
    let mut text = line.trim();
    loop {
        let rest = match text.chars().next() {
            Some('[') => text.split_once(']'),
            Some('<') => text.split_once('>'),
            _ => return text,
        };
        match rest {
            Some((_, rest)) => text = rest.trim_start(),
            None => return text,
        }
    }
}

/// `2 locks held by kworker/u4:2/5491:`.
fn holder(text: &str) -> Option<LockHolder> {
    let (count, rest) = text.split_once(' ')?;
    count.parse::<u32>().ok()?;
    let task = rest.strip_prefix("lock held by ").or_else(|| rest.strip_prefix("locks held by "))?;
    let (comm, tid) = task.strip_suffix(':')?.rsplit_once('/')?;
    Some(LockHolder { tid: tid.parse().ok()?, comm: readable(comm), locks: Vec::new() })
}

/// `#0: ffff888097ae2af0 (&f->f_pos_lock){+.+.}-{3:3}, at: __fdget_pos+0xe9/0x100`.
fn lock(text: &str) -> Option<HeldLock> {
    let (number, rest) = text.strip_prefix('#')?.split_once(": ")?;
    number.parse::<u32>().ok()?;
    let (instance, rest) = rest.split_once(' ')?;
    let (class, place) = rest.rsplit_once(", at: ")?;
    let class = class.strip_prefix('(')?;
    let name = class.rsplit_once("){").map_or_else(|| class.trim_end_matches(')'), |(name, _)| name);
    let taken_in = Symbol::parse(place).map_or_else(|| readable(place), |symbol| symbol.to_string());
    Some(HeldLock { name: readable(name), instance: readable(instance), taken_in })
}

fn readable(text: &str) -> String {
    text.chars().take(MOST_NAME_CHARS).map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

/// Who holds what, in a sentence each; nothing of a task without locks.
pub(super) fn sentences(holders: &[LockHolder]) -> Vec<String> {
    let with_locks = holders.iter().filter(|holder| !holder.locks.is_empty());
    with_locks
        .map(|holder| {
            let locks = holder.locks.iter().map(|lock| format!("{} (taken in {})", lock.name, lock.taken_in));
            format!("By lockdep, {} ({}) holds {}.", holder.comm, holder.tid, locks.collect::<Vec<_>>().join(", "))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As a kernel prints it, shortened.
    const LIST: &str = "\
[ 1456.590057][ T1161] RAX: ffffffffffffffda RBX: 000000000001f440 RCX: 000000000045c1d9
[ 1456.691601][ T1161] 
[ 1456.691601][ T1161] Showing all locks held in the system:
[ 1456.699339][ T1161] 1 lock held by khungtaskd/1161:
[ 1456.707971][ T1161]  #0: ffffffff89c53980 (rcu_read_lock){....}-{1:2}, at: debug_show_all_locks+0x53/0x260
[ 1456.719822][ T1161] 1 lock held by in:imklog/6533:
[ 1456.737655][ T1161] 2 locks held by kworker/u4:2/5491:
[ 1456.744847][ T1161]  #0: ffff8880ae735e18 (&rq->lock){-.-.}-{2:2}, at: __schedule+0x230/0x1e80
[ 1456.756322][ T1161]  #1: ffffc9000858fda8 ((work_completion)(&(&bat_priv->nc.work)->work)){+.+.}-{0:0}, at: process_one_work+0x85f/0x1670
[ 1456.771099][ T1161] =============================================
[ 1456.771100][ T1161] 1 lock held by somebody/1:
";

    fn read(text: &str) -> Vec<LockHolder> {
        let mut reader = LockReader::default();
        text.lines().for_each(|line| reader.line(line));
        reader.holders().to_vec()
    }

    #[test]
    fn a_list_is_read_whole() {
        let holders = read(LIST);
        let told: Vec<_> =
            holders.iter().map(|holder| (holder.tid, holder.comm.as_str(), holder.locks.len())).collect();
        assert_eq!(told, [(1161, "khungtaskd", 1), (6533, "in:imklog", 0), (5491, "kworker/u4:2", 2)]);
        assert_eq!(holders[2].locks[1].name, "(work_completion)(&(&bat_priv->nc.work)->work)");
        assert_eq!(
            sentences(&holders[1..]),
            ["By lockdep, kworker/u4:2 (5491) holds &rq->lock (taken in __schedule), \
              (work_completion)(&(&bat_priv->nc.work)->work) (taken in process_one_work)."]
        );
    }

    #[test]
    fn of_two_lists_the_last_counts_and_older_layouts_are_read() {
        let older = "[ 2435.300711] Showing all locks held in the system:\n[ 2435.302138] 1 lock held by khungtaskd/342:\n\
                     [ 2435.302643]  #0: 000000007cacd2b6 (rcu_read_lock){....}, at: debug_show_all_locks+0x28/0x260\n";
        let holders = read(&format!("{LIST}{older}"));
        assert_eq!(holders.len(), 1);
        assert_eq!(holders[0].locks[0].name, "rcu_read_lock");
    }

    proptest! {
        #[test]
        fn any_lines_are_survived(lines in proptest::collection::vec("[ #0-9:(){},a-z<>\\[\\]/\u{e9}]{0,60}", 0..20)) {
            read(&format!("{BEGINS}\n{}", lines.join("\n")));
        }
    }
}
