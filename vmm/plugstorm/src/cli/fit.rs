//! Exit codes as `git bisect run` wants them.
//!
//! | | |
//! |---|---|
//! | 0 | good: nothing found |
//! | 1 | bad: something found |
//! | 125 | skip: it lies in this commit that nothing is known. It does not compile or boot, or its runs prove nothing |
//! | 128, 130 | abort: it would be the same, and wrong, at each commit. The user's or the machine's fault; a signal |

use std::path::Path;

use crate::results::{EndedBy, RESULT, RunResult, Verdict, read_result};
use crate::verdict::{EXIT_ABORT, EXIT_MACHINE, EXIT_SKIP, EXIT_USER};

/// On a command line that cannot be read, too, whose flags nobody knows.
pub(super) const FLAG: &str = "--git-bisect";

/// Whether the command line asks for them.
pub(super) fn is_asked_for() -> bool {
    std::env::args_os().skip(1).take_while(|arg| arg != "--").any(|arg| arg == FLAG)
}

/// Of any command: what is not known to lie in the commit ends the bisection.
pub(super) fn code(code: u8) -> u8 {
    match code {
        EXIT_USER | EXIT_MACHINE => EXIT_ABORT,
        code => code,
    }
}

/// Of runs with results in these folders, if they are `new`, that ended with this code in all: where some prove nothing, and none of
/// these for a reason that lies elsewhere than in its guest, the commit is to be skipped.
pub(super) fn of_runs<'a>(code: u8, mut folders: impl Iterator<Item = &'a Path>, new: impl Fn(&Path) -> bool) -> u8 {
    let is_settled =
        |folder: &Path| new(folder) && read_result(&folder.join(RESULT)).is_ok_and(|result| is_settled(&result));
    if code == EXIT_MACHINE && folders.all(is_settled) { EXIT_SKIP } else { code }
}

/// Whether it ended, and by nothing but itself or its guest.
fn is_settled(result: &RunResult) -> bool {
    match result.verdict {
        Verdict::Clean => true,
        Verdict::Found | Verdict::Inconclusive => matches!(result.ended_by, EndedBy::Itself | EndedBy::Machine),
        Verdict::Running | Verdict::Interrupted => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn only_what_lies_in_the_guest_is_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, verdict: Verdict, ended_by: EndedBy| {
            let path = folder.path().join(name);
            std::fs::create_dir(&path).unwrap();
            let result = RunResult { verdict, ended_by, ..sample::clean() };
            std::fs::write(path.join(RESULT), serde_json::to_vec(&result).unwrap()).unwrap();
            path
        };
        let clean = put("clean", Verdict::Clean, EndedBy::Itself);
        let boot = put("boot", Verdict::Inconclusive, EndedBy::Machine);
        let gap = put("gap", Verdict::Inconclusive, EndedBy::Itself);
        let disk = put("disk", Verdict::Inconclusive, EndedBy::Host);
        let user = put("user", Verdict::Inconclusive, EndedBy::User);
        let killed = put("killed", Verdict::Running, EndedBy::Itself);
        let earlier = put("earlier", Verdict::Inconclusive, EndedBy::Machine);
        let of = |code: u8, folders: &[&std::path::PathBuf]| {
            of_runs(code, folders.iter().map(|path| path.as_path()), |path| path != earlier)
        };
        assert_eq!((of(0, &[&clean]), of(1, &[&clean, &disk]), of(130, &[&killed])), (0, 1, 130));
        assert_eq!(of(EXIT_MACHINE, &[&clean, &boot, &gap]), EXIT_SKIP);
        for other in [&disk, &user, &killed, &earlier, &folder.path().join("none")] {
            assert_eq!(of(EXIT_MACHINE, &[&boot, other]), EXIT_MACHINE, "{}", other.display());
        }
        assert_eq!([0, 1, 2, 3, 125, 130].map(code), [0, 1, 128, 128, 125, 130]);
    }
}
