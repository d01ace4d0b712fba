//! Held locks, which a kernel with lockdep lists on its console when it is told to (`sysrq_showlocks_op` of drivers/tty/sysrq.c).

use std::path::Path;

use plugstorm_wire::FromGuest;

use crate::clock::tsc;
use crate::sysfs;

/// There with CONFIG_LOCKDEP (kernel/locking/lockdep_proc.c). A kernel without takes the letter for one that it does not know, and
/// prints which it does.
const LOCKDEP: &str = "/proc/lockdep";
/// There with CONFIG_MAGIC_SYSRQ. What is written here is done whatever `kernel.sysrq` allows at a keyboard.
const TRIGGER: &str = "/proc/sysrq-trigger";
/// `debug_show_all_locks()`.
const SHOW_LOCKS: &str = "d";

/// Answers [`plugstorm_wire::ToGuest::ShowLocks`].
pub(crate) fn show(id: u64) -> FromGuest {
    let began_tsc = tsc();
    let error = list(Path::new(LOCKDEP), Path::new(TRIGGER)).err();
    FromGuest::Done { id, began_tsc, ended_tsc: tsc(), error }
}

fn list(lockdep: &Path, trigger: &Path) -> Result<(), String> {
    if !lockdep.exists() {
        return Err(format!("this kernel keeps no account of locks: it has no {}", lockdep.display()));
    }
    sysfs::write(trigger, SHOW_LOCKS).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_lockdep_is_not_asked() {
        let there = std::env::temp_dir().join(format!("plugstorm-locks-{}", std::process::id()));
        std::fs::write(&there, "").unwrap();
        let none = there.with_extension("none");
        let refused = list(&none, &there).unwrap_err();
        assert!(refused.contains("keeps no account of locks"), "{refused}");
        assert_eq!(std::fs::read_to_string(&there).unwrap(), "");
        assert!(list(&there, &none).unwrap_err().contains("cannot write \"d\""));
        assert_eq!(list(&there, &there), Ok(()));
        assert_eq!(std::fs::read_to_string(&there).unwrap(), "d");
        std::fs::remove_file(there).unwrap();
    }
}
