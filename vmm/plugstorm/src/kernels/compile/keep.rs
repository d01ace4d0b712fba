//! What of a build goes into the cache: the image, its modules, and the smallest tree that modules can be built in.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::BuildError;
use super::check::Config;
use crate::kernels::KernelError;
use crate::kernels::manifest::{CachedFile, CachedModule, HeaderFolders, Origin};
use crate::kernels::modinfo::canonical;
use crate::kernels::unpack;

/// The tree's folder in a cached kernel.
pub(super) const TREE: &str = "tree";
/// What a module's build reads of a built tree, as the tree's own scripts/package/install-extmod-build has it: headers,
/// kbuild with its programs, symbols. Folders are taken whole.
const KEPT: [&str; 9] = [
    "Makefile",
    ".config",
    "Module.symvers",
    "include",
    "scripts",
    "arch/x86/Makefile",
    "arch/x86/Makefile_32.cpu",
    "arch/x86/include",
    "tools/objtool/objtool",
];
/// Not there with every configuration or version.
const OPTIONAL: [&str; 3] = ["arch/x86/Makefile_32.cpu", "tools/objtool/objtool", "arch/x86/Makefile.um"];

/// What was kept.
pub(super) struct Kept {
    pub(super) image: CachedFile,
    pub(super) modules: Vec<CachedModule>,
    pub(super) headers: HeaderFolders,
}

/// Moves what is kept from the built tree `from` to `out`. The tree is not to be used afterwards.
pub(super) fn keep(from: &Path, out: &Path, config: &Config) -> Result<Kept, BuildError> {
    let index = modules(from)?;
    let names: Vec<&str> = index.keys().map(String::as_str).collect();
    let mut modules = unpack::modules(&index, &names, out, "built")?;
    for module in &mut modules {
        module.origin = Origin::Built;
    }
    take(&from.join("arch/x86/boot/bzImage"), &out.join("bzImage"))?;
    take(&from.join("System.map"), &out.join("System.map"))?;
    if config.contains_key("DEBUG_INFO") {
        // File and line of an address are in there, and nowhere else.
        take(&from.join("vmlinux"), &out.join("vmlinux"))?;
    }
    let tree = out.join(TREE);
    for name in KEPT {
        let source = from.join(name);
        if source.exists() || !OPTIONAL.contains(&name) {
            take(&source, &tree.join(name))?;
        }
    }
    fs::copy(tree.join(".config"), out.join("config")).map_err(BuildError::io("cannot write", &out.join("config")))?;
    drop_objects(&tree)?;
    Ok(Kept {
        image: CachedFile::describe(out, "bzImage")?,
        modules,
        headers: HeaderFolders { flavour: TREE.into(), common: TREE.into() },
    })
}

/// The modules that were built, by name: `modules.order` has them, as objects since 6.3.
fn modules(tree: &Path) -> Result<BTreeMap<String, PathBuf>, BuildError> {
    let path = tree.join("modules.order");
    let list = match fs::read_to_string(&path) {
        Ok(list) => list,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(BuildError::io("cannot read", &path)(error)),
    };
    let files = list.lines().map(|line| tree.join(line).with_extension("ko"));
    Ok(files.filter_map(|file| Some((canonical(&file.file_stem()?.to_string_lossy()), file))).collect())
}

fn take(from: &Path, to: &Path) -> Result<(), BuildError> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(BuildError::io("cannot make", parent))?;
    }
    fs::rename(from, to).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => BuildError::Kernel(KernelError::NotBuilt { file: from.display().to_string() }),
        _ => BuildError::io("cannot move to", to)(source),
    })
}

/// Objects and make's notes: the programs are linked, and nothing is made here again.
fn drop_objects(folder: &Path) -> Result<(), BuildError> {
    let entries = fs::read_dir(folder).map_err(BuildError::io("cannot read", folder))?;
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            drop_objects(&path)?;
        } else if [".o", ".a", ".cmd"].iter().any(|suffix| name.ends_with(suffix)) {
            fs::remove_file(&path).map_err(BuildError::io("cannot remove", &path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_needs_is_kept_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (from, out) = (folder.path().join("linux"), folder.path().join("out"));
        let files = [
            "Makefile",
            ".config",
            "Module.symvers",
            "System.map",
            "vmlinux",
            "include/linux/a.h",
            "scripts/mod/modpost",
            "scripts/mod/modpost.o",
            "scripts/mod/.modpost.cmd",
            "arch/x86/Makefile",
            "arch/x86/include/asm/a.h",
            "arch/x86/boot/bzImage",
            "kernel/a.c",
            "kernel/a.o",
        ];
        for file in files {
            fs::create_dir_all(from.join(file).parent().unwrap()).unwrap();
            fs::write(from.join(file), file).unwrap();
        }
        let kept = keep(&from, &out, &Config::from([("DEBUG_INFO".into(), "y".into())])).unwrap();
        assert_eq!((kept.image.bytes, kept.modules.len(), kept.headers.common.as_str()), (21, 0, "tree"));
        for file in
            ["bzImage", "vmlinux", "config", "tree/include/linux/a.h", "tree/scripts/mod/modpost", "tree/.config"]
        {
            assert!(out.join(file).exists(), "{file}");
        }
        for file in ["tree/kernel", "tree/scripts/mod/modpost.o", "tree/scripts/mod/.modpost.cmd", "tree/vmlinux"] {
            assert!(!out.join(file).exists(), "{file}");
        }
    }

    #[test]
    fn a_tree_without_an_image_was_not_built() {
        let folder = tempfile::tempdir().unwrap();
        let Err(error) = keep(folder.path(), &folder.path().join("out"), &Config::new()) else { panic!("no image") };
        assert!(error.to_string().contains("bzImage"), "{error}");
    }

    #[test]
    fn modules_are_listed_as_objects_or_as_modules() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("modules.order"), "drivers/gpio/gpio-virtio.o\nlib/x.ko\n").unwrap();
        let index = modules(folder.path()).unwrap();
        assert_eq!(index["gpio_virtio"], folder.path().join("drivers/gpio/gpio-virtio.ko"));
        assert_eq!(index["x"], folder.path().join("lib/x.ko"));
    }
}
