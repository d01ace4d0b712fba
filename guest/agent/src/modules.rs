//! Loads the modules that the host put into the initramfs: at the start, or when it says so.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::path::Path;

use nix::errno::Errno;
use nix::kmod::{DeleteModuleFlags, ModuleInitFlags, delete_module, finit_module};
use plugstorm_wire::{FromGuest, LATER_MODULES, ModuleOutcome};

use crate::clock::tsc;
use crate::sysfs;

/// Where the host puts them: `NN-name.ko`, not compressed, to be loaded in the order of their names. Those that the scenario names
/// have a file `NN-name.options` beside them, with what else they are told; it may be empty.
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

/// Answers [`plugstorm_wire::ToGuest::LoadModule`].
pub(crate) fn load_later(id: u64, file: &str, parameters: &str) -> FromGuest {
    let began_tsc = tsc();
    let error = match CString::new(parameters) {
        Ok(parameters) => load_with(&Path::new(LATER_MODULES).join(file), Some(&parameters)).err(),
        Err(_) => Some(format!("the parameters of {file} have a zero byte in them")),
    };
    FromGuest::Done { id, began_tsc, ended_tsc: tsc(), error }
}

/// Answers [`plugstorm_wire::ToGuest::UnloadModule`].
pub(crate) fn unload(id: u64, name: &str) -> FromGuest {
    let began_tsc = tsc();
    // Not waiting for users: one that never lets go would hold this thread for ever (delete_module(2)).
    let error = CString::new(name)
        .map_err(|_| Errno::EINVAL)
        .and_then(|name| delete_module(&name, DeleteModuleFlags::O_NONBLOCK));
    let error = error.err().map(|errno| format!("cannot remove module {name}: {errno}"));
    FromGuest::Done { id, began_tsc, ended_tsc: tsc(), error }
}

fn load(path: &Path) -> Result<(), String> {
    load_with(path, options(path)?.as_deref())
}

/// `options`: what a module that is asked for by name is told; nothing if it is one that the host has added.
fn load_with(path: &Path, options: Option<&CStr>) -> Result<(), String> {
    let file = File::open(path).map_err(|error| format!("cannot open {}: {error}", path.display()))?;
    match finit_module(&file, options.unwrap_or_default(), ModuleInitFlags::empty()) {
        Ok(()) => Ok(()),
        // It is loaded already, or built into the kernel. That does for what guests need, and not for a module under test.
        Err(Errno::EEXIST) if options.is_none() => Ok(()),
        Err(errno) => Err(format!("cannot load {}: {errno}{}", path.display(), hint(errno))),
    }
}

/// What a module of the scenario's is told; nothing if it is one that the host has added.
fn options(module: &Path) -> Result<Option<CString>, String> {
    let path = module.with_extension("options");
    if !path.exists() {
        return Ok(None);
    }
    let text = sysfs::read(&path).map_err(|error| error.to_string())?;
    CString::new(text).map(Some).map_err(|_| format!("{} has a zero byte in it", path.display()))
}

/// What an errno of `finit_module(2)` most often means; the kernel tells the rest only in its log.
fn hint(errno: Errno) -> &'static str {
    match errno {
        Errno::ENOEXEC => " (built for another kernel, or compressed)",
        Errno::ENOENT => " (a symbol is missing: a module it depends on must be loaded before it)",
        Errno::EKEYREJECTED | Errno::EPERM => " (this kernel takes signed modules only)",
        Errno::ENODEV => " (the module found nothing to drive)",
        Errno::EEXIST => " (a module of this name is built into this kernel, or loaded already)",
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
    fn options_lie_beside_the_module() {
        let folder = std::env::temp_dir().join(format!("plugstorm-agent-modules-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let module = folder.join("05-my-driver.ko");
        assert_eq!(options(&module), Ok(None));
        for (text, wanted) in [("", c""), ("lines=4 quiet", c"lines=4 quiet")] {
            std::fs::write(folder.join("05-my-driver.options"), text).unwrap();
            assert_eq!(options(&module).unwrap().as_deref(), Some(wanted));
        }
        std::fs::write(folder.join("05-my-driver.options"), "a\0b").unwrap();
        assert!(options(&module).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_cannot_be_loaded_or_removed_later_is_a_sentence() {
        let said = |message| match message {
            FromGuest::Done { id: 5, error: Some(error), .. } => error,
            other => panic!("{other:?}"),
        };
        assert!(said(load_later(5, "refscale.ko", "nreaders=1")).contains("/plugstorm/later/refscale.ko"));
        assert!(said(load_later(5, "refscale.ko", "a\0b")).contains("zero byte"));
        assert!(said(unload(5, "plugstorm_no_such_module")).contains("plugstorm_no_such_module"));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        assert!(load(Path::new("/nonexistent/00-x.ko")).unwrap_err().contains("/nonexistent/00-x.ko"));
    }
}
