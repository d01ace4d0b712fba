//! Takes files out of packages: the kernel image, modules, one source file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use liblzma::read::XzDecoder;

use super::KernelError;
use super::manifest::{CachedFile, CachedModule, Origin};
use super::modinfo::{ModInfo, canonical, load_order};
use super::tool::Tool;

/// No module of a distribution comes near: a bound for a file that claims to be one.
const MODULE_MAX_BYTES: u64 = 256 << 20;

/// Unpacks a whole package below `into`.
pub(super) fn package(file: &Path, into: &Path) -> Result<(), KernelError> {
    Tool::new("dpkg-deb", "dpkg").arg("-x").arg(file).arg(into).output().map(drop)
}

/// A field of a package's control file.
pub(super) fn control_field(file: &Path, field: &str) -> Result<String, KernelError> {
    Tool::new("dpkg-deb", "dpkg").arg("-f").arg(file).arg(field).output()
}

/// The kernel modules below a folder, by name.
pub(super) fn index(folder: &Path) -> Result<BTreeMap<String, PathBuf>, KernelError> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(|source| KernelError::io("cannot read", &folder, source))?;
        for entry in entries.flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else if let Some(name) = module_name(&entry.file_name().to_string_lossy()) {
                found.insert(name, path);
            }
        }
    }
    Ok(found)
}

/// The module's name if the file is a module, packed or not.
fn module_name(file: &str) -> Option<String> {
    let stem = [".ko", ".ko.xz"].iter().find_map(|suffix| file.strip_suffix(suffix))?;
    Some(canonical(stem))
}

/// A module's content, unpacked.
fn read_module(path: &Path) -> Result<Vec<u8>, KernelError> {
    let failed = |source| KernelError::io("cannot read the module", path, source);
    let file = fs::File::open(path).map_err(failed)?;
    let mut content = Vec::new();
    if path.extension().is_some_and(|extension| extension == "xz") {
        std::io::Read::read_to_end(&mut std::io::Read::take(XzDecoder::new(file), MODULE_MAX_BYTES), &mut content)
    } else {
        std::io::Read::read_to_end(&mut std::io::Read::take(file, MODULE_MAX_BYTES), &mut content)
    }
    .map_err(failed)?;
    Ok(content)
}

/// Copies the modules `wanted` and all they need from `index` to `folder`/`below`; gives them in the order of loading.
/// Wanted modules that the index does not have are built into the kernel, and left out.
pub(super) fn modules(
    index: &BTreeMap<String, PathBuf>,
    wanted: &[&str],
    folder: &Path,
    below: &str,
) -> Result<Vec<CachedModule>, KernelError> {
    let target = folder.join(below);
    fs::create_dir_all(&target).map_err(|source| KernelError::io("cannot make", &target, source))?;
    let mut depends = BTreeMap::new();
    let mut pending: Vec<String> = wanted.iter().map(|name| canonical(name)).collect();
    while let Some(name) = pending.pop() {
        let Some(path) = index.get(&name).filter(|_| !depends.contains_key(&name)) else { continue };
        let content = read_module(path)?;
        let info = ModInfo::read(&content).ok_or_else(|| KernelError::NotInPackage {
            package: path.display().to_string(),
            what: "readable .modinfo section".into(),
        })?;
        let file = target.join(format!("{name}.ko"));
        fs::write(&file, content).map_err(|source| KernelError::io("cannot write", &file, source))?;
        pending.extend(info.depends.iter().cloned());
        depends.insert(name, info.depends);
    }
    load_order(wanted, &depends)
        .into_iter()
        .map(|name| {
            let file = CachedFile::describe(folder, &format!("{below}/{name}.ko"))?;
            let depends = depends.get(&name).cloned().unwrap_or_default();
            Ok(CachedModule { name, origin: Origin::Stock, depends, file })
        })
        .collect()
}

/// Takes files out of the source package's archive, into `to` at their own paths. The archive is read only as far as
/// the last of them.
pub(super) fn source_files(package_file: &Path, scratch: &Path, files: &[&str], to: &Path) -> Result<(), KernelError> {
    package(package_file, scratch)?;
    let folder = scratch.join("usr/src");
    let archive = fs::read_dir(&folder)
        .map_err(|source| KernelError::io("cannot read", &folder, source))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.to_string_lossy().ends_with(".tar.xz"))
        .ok_or_else(|| KernelError::NotInPackage {
            package: package_file.display().to_string(),
            what: "usr/src/linux-source-….tar.xz".into(),
        })?;
    fs::create_dir_all(to).map_err(|source| KernelError::io("cannot make", to, source))?;
    // The archive has one folder, named as itself. tar fails if a file is not in there.
    let top = archive.file_name().map(|name| name.to_string_lossy().replace(".tar.xz", "")).unwrap_or_default();
    Tool::new("tar", "tar")
        .args(["--use-compress-program=xz", "--occurrence=1", "--strip-components=1", "-xf"])
        .arg(&archive)
        .arg("-C")
        .arg(to)
        .args(files.iter().map(|file| format!("{top}/{file}")))
        .output()
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_known_by_their_names() {
        assert_eq!(module_name("kvm-amd.ko.xz").as_deref(), Some("kvm_amd"));
        assert_eq!(module_name("virtio.ko").as_deref(), Some("virtio"));
        assert_eq!(module_name("modules.dep"), None);
    }

    #[test]
    fn a_folder_is_searched_through() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("kernel/a")).unwrap();
        fs::write(folder.path().join("kernel/a/9p.ko"), "").unwrap();
        assert_eq!(index(folder.path()).unwrap().keys().collect::<Vec<_>>(), ["9p"]);
    }

    #[test]
    fn a_module_that_is_none_is_an_error_and_one_that_is_not_there_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.ko");
        fs::write(&path, "rubbish").unwrap();
        let index = BTreeMap::from([("x".to_owned(), path)]);
        assert!(modules(&index, &["x"], folder.path(), "stock").is_err());
        assert_eq!(modules(&index, &["built-in"], folder.path(), "stock").unwrap(), []);
    }
}
