//! Loads the modules that the host put into the initramfs.

use std::fs::File;
use std::path::Path;

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use plugstorm_wire::ModuleOutcome;

use crate::sysfs;

/// Where the host puts them: `NN-name.ko`, not compressed, to be loaded in the order of their names.
const DIRECTORY: &str = "/plugstorm/modules";

/// Loads all modules. A directory that is not there means that there are none.
pub(crate) fn load_all() -> Vec<ModuleOutcome> {
    let directory = Path::new(DIRECTORY);
    let Ok(files) = sysfs::list(directory) else { return Vec::new() };
    files
        .into_iter()
        .filter(|file| file.ends_with(".ko"))
        .map(|file| {
            let error = load(&directory.join(&file)).err();
            ModuleOutcome { file, error }
        })
        .collect()
}

fn load(path: &Path) -> Result<(), String> {
    let file = File::open(path).map_err(|error| format!("cannot open {}: {error}", path.display()))?;
    match finit_module(&file, c"", ModuleInitFlags::empty()) {
        // EEXIST: it is loaded already, or built into the kernel.
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(format!("cannot load {}: {errno}{}", path.display(), hint(errno))),
    }
}

/// What an errno of `finit_module(2)` most often means; the kernel tells the rest only in its log.
fn hint(errno: Errno) -> &'static str {
    match errno {
        Errno::ENOEXEC => " (built for another kernel, or compressed)",
        Errno::ENOENT => " (a symbol is missing: a module it depends on must be loaded before it)",
        Errno::EKEYREJECTED | Errno::EPERM => " (this kernel takes signed modules only)",
        Errno::ENODEV => " (the module found nothing to drive)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_directory_means_no_modules() {
        assert_eq!(load_all(), []);
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        assert!(load(Path::new("/nonexistent/00-x.ko")).unwrap_err().contains("/nonexistent/00-x.ko"));
    }
}
