//! Which files of the cache have debug information of a kernel and its modules.

use std::path::{Path, PathBuf};

use super::manifest::{self, Manifest};
use super::{KernelError, OWN_MODULE, SELF_TESTS, build, kernel_folder, stock_files};
use crate::cache;

/// What the cache has of a kernel that may have debug information.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DebugFiles {
    /// The linked kernel, which `kernel build` keeps where it was built with debug information.
    pub(crate) vmlinux: Option<PathBuf>,
    /// All modules, those that we built among them.
    pub(crate) modules: Vec<PathBuf>,
    /// Of the kernel that they belong to.
    pub(crate) release: String,
    /// In brackets, where a vmlinux could be had if there is none.
    pub(crate) hint: String,
}

/// Finds them, for a kernel by its name in the cache. Builds nothing.
///
/// # Errors
/// [`KernelError`]: the cache has no kernel of this name, or cannot be read.
pub(crate) fn debug_files(name: &str) -> Result<DebugFiles, KernelError> {
    debug_files_in(&cache::root(), name)
}

fn debug_files_in(root: &Path, name: &str) -> Result<DebugFiles, KernelError> {
    let folder = kernel_folder(root, name);
    // A path is no name: it would lead out of the cache.
    if name.is_empty() || name.contains('/') || !folder.join(manifest::FILE).exists() {
        return Err(KernelError::NotInCache { name: name.into(), root: root.into() });
    }
    let manifest = Manifest::read(&folder)?;
    let vmlinux = Some(folder.join("vmlinux")).filter(|path| path.is_file());
    let own = build::own_module_folder(root, &manifest);
    let own = [OWN_MODULE, SELF_TESTS].map(|name| own.join(format!("{name}.ko")));
    let modules = stock_files(&folder, &manifest).into_values().chain(own).filter(|path| path.is_file()).collect();
    let hint = match &manifest.built {
        Some(_) => " (it was built without CONFIG_DEBUG_INFO, which the fragment `debug` has)".into(),
        None => format!(" (Debian has it in the package linux-image-{}-dbg, for --vmlinux)", manifest.release),
    };
    Ok(DebugFiles { vmlinux, modules, release: manifest.release, hint })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_there_is_found_and_what_is_not_is_told() {
        let root = tempfile::tempdir().unwrap();
        for name in ["", "mine", "../kernels/mine"] {
            let error = debug_files_in(root.path(), name).unwrap_err().to_string();
            assert!(error.contains("plugstorm kernel list"), "{error}");
        }
        let folder = kernel_folder(root.path(), "mine");
        fs::create_dir_all(folder.join("stock")).unwrap();
        let manifest = r#"{"version": 1, "name": "mine", "release": "6.1.0-1-amd64", "packages": [], "bytes": 0,
            "image": {"file": "bzImage", "sha256": "", "bytes": 0},
            "modules": [{"name": "a", "origin": "stock", "depends": [], "file": "stock/a.ko", "sha256": "", "bytes": 0},
                        {"name": "b", "origin": "stock", "depends": [], "file": "stock/b.ko", "sha256": "", "bytes": 0}],
            "headers": {"flavour": "f", "common": "c"}}"#;
        fs::write(folder.join("manifest.json"), manifest).unwrap();
        fs::write(folder.join("stock/a.ko"), "").unwrap();
        let found = debug_files_in(root.path(), "mine").unwrap();
        assert_eq!((found.vmlinux, found.modules), (None, vec![folder.join("stock/a.ko")]));
        assert!(found.hint.contains("linux-image-6.1.0-1-amd64-dbg"), "{}", found.hint);
        fs::write(folder.join("vmlinux"), "").unwrap();
        assert_eq!(debug_files_in(root.path(), "mine").unwrap().vmlinux, Some(folder.join("vmlinux")));
    }
}
