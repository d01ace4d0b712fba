//! After how long the kernel complains, as the host of this run wants it.

use std::path::Path;

use plugstorm_wire::Watchdogs;

use crate::sysfs;

const RCU_STALL: &str = "/sys/module/rcupdate/parameters/rcu_cpu_stall_timeout";
const RCU_EXPEDITED_STALL: &str = "/sys/module/rcupdate/parameters/rcu_exp_cpu_stall_timeout";
const SOFT_LOCKUP: &str = "/proc/sys/kernel/watchdog_thresh";
const HUNG_TASK: &str = "/proc/sys/kernel/hung_task_timeout_secs";

/// Sets the limits; gives a sentence for each that could not be. Those of grace periods count from the next one on, the
/// others at once (kernel/rcu/tree_stall.h, kernel/watchdog.c, kernel/hung_task.c).
pub(crate) fn set(watchdogs: &Watchdogs) -> Vec<String> {
    let limits = [
        (RCU_STALL, watchdogs.rcu_stall_s),
        (SOFT_LOCKUP, watchdogs.soft_lockup_thresh_s),
        (HUNG_TASK, watchdogs.hung_task_s),
    ];
    let mut problems: Vec<String> =
        limits.into_iter().filter_map(|(path, seconds)| set_one(Path::new(path), seconds).err()).collect();
    problems.extend(let_expedited_follow(Path::new(RCU_EXPEDITED_STALL)).err());
    problems
}

/// An expedited grace period has the limit of an ordinary one while its own is 0, in milliseconds. 6.1 takes 21 s at most, and
/// writes that down in its place as soon as the ordinary limit is beyond (rcu_exp_jiffies_till_stall_check): as it was when
/// this kernel started.
fn let_expedited_follow(path: &Path) -> Result<(), String> {
    match sysfs::read(path) {
        Ok(in_force) if in_force == "21000" => sysfs::write(path, "0").map_err(|error| error.to_string()),
        // Somebody's own choice, or a kernel that has no limit of this kind.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Writes a limit if another one is in force: khungtaskd wakes up even for the same one. A kernel without this watchdog has
/// no such file, and nothing to set.
fn set_one(path: &Path, seconds: u32) -> Result<(), String> {
    if !path.exists() {
        return Ok(());
    }
    let in_force = sysfs::read(path).map_err(|error| error.to_string())?;
    if in_force.parse() == Ok(seconds) {
        return Ok(());
    }
    sysfs::write(path, &seconds.to_string()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_kernels_own_bound_of_expedited_grace_periods_is_taken_back() {
        let file = std::env::temp_dir().join(format!("plugstorm-agent-expedited-{}", std::process::id()));
        assert_eq!(let_expedited_follow(&file), Ok(()));
        for (before, after) in [("21000\n", "01000\n"), ("20\n", "20\n"), ("0\n", "0\n")] {
            fs::write(&file, before).unwrap();
            assert_eq!(let_expedited_follow(&file), Ok(()));
            // A plain file keeps the end of what was there.
            assert_eq!(fs::read_to_string(&file).unwrap(), after);
        }
        fs::remove_file(&file).unwrap();
    }

    #[test]
    fn limits_are_written_where_they_differ_and_there() {
        let folder = std::env::temp_dir().join(format!("plugstorm-agent-watchdogs-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("watchdog_thresh");
        assert_eq!(set_one(&file, 10), Ok(()));
        assert!(!file.exists());
        fs::write(&file, "60\n").unwrap();
        assert_eq!(set_one(&file, 10), Ok(()));
        assert_eq!(fs::read_to_string(&file).unwrap(), "10\n");
        fs::write(&file, "010\n").unwrap();
        assert_eq!(set_one(&file, 10), Ok(()));
        assert_eq!(fs::read_to_string(&file).unwrap(), "010\n", "what is in force was written again");
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert!(set_one(&file, 10).unwrap_err().contains("watchdog_thresh"));
        fs::remove_dir_all(&folder).unwrap();
    }
}
