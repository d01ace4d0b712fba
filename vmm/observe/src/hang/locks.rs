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
/// What goes before it where sysrq asked for it (drivers/tty/sysrq.c, `sysrq_showlocks_op`).
const ASKED_FOR: &str = "sysrq: Show Locks Held";
/// How the list begins.
const BEGINS: &str = "Showing all locks held in the system:";
/// What a kernel says instead whose lockdep has given up, as it does after its first report.
const TURNED_OFF: &str = "INFO: lockdep is turned off.";

/// A lock that a task holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldLock {
    /// Its class, as lockdep names it: `&dev->mutex`.
    pub name: String,
    /// Where it is, in hexadecimal: two with the same place are the same lock.
    pub instance: String,
    /// The function that took it.
    pub taken_in: String,
    /// The place in that function which the call returned to, or will: `pciehp_ist+0x83/0x110`.
    #[serde(default)]
    pub taken_at: String,
}

/// A task with locks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockHolder {
    /// Thread.
    pub tid: u32,
    /// Name.
    pub comm: String,
    /// In the order in which they were taken. Lockdep counts one from when it is asked for, so the last may be one that the task
    /// waits for. Empty for a task that runs: lockdep does not look at those.
    pub locks: Vec<HeldLock>,
}

/// Reads such lists out of a console's lines.
#[derive(Debug, Default)]
pub struct LockReader {
    inside: bool,
    /// An empty line that follows is of the list.
    at_edge: bool,
    ended: u64,
    is_off: bool,
    holders: Vec<LockHolder>,
}

impl LockReader {
    /// Takes a line, with its time stamp and caller if it has them. Whether it is one of a list.
    pub fn line(&mut self, line: &str) -> bool {
        let text = unstamped(line);
        let was_at_edge = std::mem::take(&mut self.at_edge);
        if text == ASKED_FOR {
            self.at_edge = true;
            return true;
        }
        if text.starts_with(BEGINS) {
            (self.inside, self.is_off) = (true, false);
            self.holders.clear();
            return true;
        }
        if text.starts_with(TURNED_OFF) {
            (self.inside, self.is_off) = (false, true);
            self.holders.clear();
            self.ended += 1;
            return true;
        }
        if !self.inside {
            return was_at_edge && text.is_empty();
        }
        if text.starts_with("=====") {
            (self.inside, self.at_edge) = (false, true);
            self.ended += 1;
            return true;
        }
        if let Some(holder) = holder(text) {
            if self.holders.len() < MOST_HOLDERS {
                self.holders.push(holder);
            }
            return true;
        }
        let Some(lock) = lock(text) else { return text.is_empty() };
        if let Some(holder) = self.holders.last_mut().filter(|holder| holder.locks.len() < MOST_LOCKS) {
            holder.locks.push(lock);
        }
        true
    }

    /// The last list, as far as it has come.
    #[must_use]
    pub fn holders(&self) -> &[LockHolder] {
        &self.holders
    }

    /// Lists that have come to their end so far, those of a kernel that said it has none among them.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.ended
    }

    /// The kernel said, the last time it was to make a list, that lockdep is turned off.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.is_off
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

/// `#0: ffff888097ae2af0 (&f->f_pos_lock){+.+.}-{3:3}, at: __fdget_pos+0xe9/0x100`. The number is printed by itself: another
/// processor's line may come in between.
fn lock(text: &str) -> Option<HeldLock> {
    let numbered = text.strip_prefix('#').and_then(|rest| rest.split_once(": "));
    let rest = match numbered {
        Some((number, rest)) => number.parse::<u32>().ok().map(|_| rest)?,
        None => text,
    };
    let (instance, rest) = rest.split_once(' ')?;
    if instance.len() < 8 || !instance.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let (class, place) = rest.rsplit_once(", at: ")?;
    let class = class.strip_prefix('(')?;
    let name = class.rsplit_once("){").map_or_else(|| class.trim_end_matches(')'), |(name, _)| name);
    let taken_in = Symbol::parse(place).map_or_else(|| readable(place), |symbol| symbol.to_string());
    Some(HeldLock { name: readable(name), instance: readable(instance), taken_in, taken_at: readable(place) })
}

fn readable(text: &str) -> String {
    text.chars().take(MOST_NAME_CHARS).map(|letter| if letter.is_control() { '?' } else { letter }).collect()
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
        text.lines().for_each(|line| {
            reader.line(line);
        });
        reader.holders().to_vec()
    }

    #[test]
    fn a_list_is_read_whole() {
        let holders = read(LIST);
        let told: Vec<_> =
            holders.iter().map(|holder| (holder.tid, holder.comm.as_str(), holder.locks.len())).collect();
        assert_eq!(told, [(1161, "khungtaskd", 1), (6533, "in:imklog", 0), (5491, "kworker/u4:2", 2)]);
        assert_eq!(holders[2].locks[1].name, "(work_completion)(&(&bat_priv->nc.work)->work)");
        assert_eq!(holders[2].locks[0].taken_at, "__schedule+0x230/0x1e80");
    }

    #[test]
    fn of_two_lists_the_last_counts_and_older_layouts_are_read() {
        let older = "[ 2435.300711] Showing all locks held in the system:\n[ 2435.302138] 1 lock held by khungtaskd/342:\n\
                     [ 2435.302643]  #0: 000000007cacd2b6 (rcu_read_lock){....}, at: debug_show_all_locks+0x28/0x260\n";
        let holders = read(&format!("{LIST}{older}"));
        assert_eq!(holders.len(), 1);
        assert_eq!(holders[0].locks[0].name, "rcu_read_lock");
    }

    #[test]
    fn the_end_of_a_list_is_told_and_what_belongs_to_it() {
        let mut reader = LockReader::default();
        let others = ["[ 1456.5][ T1161] RAX: ffffffffffffffda", "[ 1456.6][ T1] 1 lock held by nobody/1:", "====", ""];
        others.iter().for_each(|line| assert!(!reader.line(line), "{line}"));
        assert!(reader.line("[ 1456.6][ T1161] sysrq: Show Locks Held") && reader.line("[ 1456.6][ T1161] "));
        let (first, rest) = LIST.split_once("Showing").map(|(_, list)| list.split_once('\n').unwrap()).unwrap();
        assert!(reader.line(&format!("Showing{first}")));
        // Of another processor, and the number that it came after.
        assert!(!reader.line("[ 1456.7][   C1] virtio_gpio: a word in between"));
        for line in rest.lines().take(7) {
            assert_eq!(reader.ended(), 0, "{line}");
            assert!(reader.line(line), "{line}");
        }
        assert_eq!((reader.ended(), reader.holders().len()), (1, 3));
        assert!(reader.line("[ 1456.771100][ T1161] ") && !reader.line(""));
        assert!(!reader.line("[ 1456.771100][ T1161] 1 lock held by somebody/1:"));
    }

    #[test]
    fn a_lock_whose_number_was_parted_from_it_is_read() {
        let text = format!(
            "{BEGINS}\n1 lock held by a/7:\n #0: \nanother's line, at: some+0x1/0x2\n\
             ffff888097ae2af0 (&dev->mutex){{....}}-{{4:4}}, at: device_release_driver_internal+0x4a/0x250\n"
        );
        let holders = read(&text);
        assert_eq!(holders[0].locks.len(), 1);
        assert_eq!(holders[0].locks[0].taken_in, "device_release_driver_internal");
    }

    #[test]
    fn a_kernel_that_has_given_up_ends_its_list_by_saying_so() {
        let mut reader = LockReader::default();
        LIST.lines().for_each(|line| {
            reader.line(line);
        });
        assert!(reader.line("[   90.000001][   T80] INFO: lockdep is turned off."));
        assert_eq!((reader.ended(), reader.holders(), reader.is_off()), (2, &[][..], true));
    }

    proptest! {
        #[test]
        fn any_lines_are_survived(lines in proptest::collection::vec("[ #0-9:(){},a-z<>\\[\\]/\u{e9}]{0,60}", 0..20)) {
            read(&format!("{BEGINS}\n{}", lines.join("\n")));
        }
    }
}
