//! Builds modules against a kernel's unpacked headers, without installing them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::manifest::{self, CachedFile, Manifest};
use super::modinfo::ModInfo;
use super::tool::Tool;
use super::{COMPANIONS, KernelError, OWN_MODULE};
use crate::cache::CacheLock;
use crate::programs;

include!(concat!(env!("OUT_DIR"), "/module_sources.rs"));

/// Part of the key of what we build: raised when the way of building changes.
const RECIPE: u32 = 2;

/// Our module, built.
#[derive(Debug)]
pub(super) struct OwnModule {
    pub(super) path: PathBuf,
    pub(super) depends: Vec<String>,
    /// Those of [`COMPANIONS`] that the kernel's configuration allows.
    pub(super) companions: Vec<Companion>,
}

/// A module that goes with ours, built.
#[derive(Debug)]
pub(super) struct Companion {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) depends: Vec<String>,
}

/// `manifest.json` beside a built module.
#[derive(Debug, Serialize, Deserialize)]
struct BuiltManifest {
    version: u32,
    release: String,
    depends: Vec<String>,
    #[serde(flatten)]
    file: CachedFile,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    companions: Vec<BuiltCompanion>,
}

#[derive(Debug, Serialize, Deserialize)]
struct BuiltCompanion {
    name: String,
    depends: Vec<String>,
    #[serde(flatten)]
    file: CachedFile,
}

/// Our module for the kernel in `folder`: from the cache if it was built from these very sources, else built now. A wait for
/// the cache ends when `interrupt` is set.
pub(super) fn own_module(
    root: &Path,
    folder: &Path,
    manifest: &Manifest,
    interrupt: &AtomicBool,
    progress: &mut dyn FnMut(&str),
) -> Result<OwnModule, KernelError> {
    if SOURCES.is_empty() {
        return Err(KernelError::NoModuleSources);
    }
    let target = own_module_folder(root, manifest);
    if let Some(built) = read_built(&target, manifest, progress) {
        return Ok(built);
    }
    let lock = CacheLock::take_unless(root, interrupt, progress)?;
    if let Some(built) = read_built(&target, manifest, &mut |_| ()) {
        return Ok(built);
    }
    progress(&format!("building our module for {}", manifest.release));
    let work = lock.workspace()?;
    let (build, out) = (work.path().join("build"), work.path().join("out"));
    let make = |path: &Path| fs::create_dir(path).map_err(|source| KernelError::io("cannot make", path, source));
    make(&build)?;
    make(&out)?;
    for (name, text) in SOURCES {
        let file = build.join(name);
        fs::write(&file, text).map_err(|source| KernelError::io("cannot write", &file, source))?;
    }
    let built = module(folder, manifest, &build, OWN_MODULE)?;
    let keep = |name: &str| {
        let file = format!("{name}.ko");
        let to = out.join(&file);
        fs::copy(build.join(&file), &to).map_err(|source| KernelError::io("cannot write", &to, source))?;
        CachedFile::describe(&out, &file)
    };
    // The Makefile makes those that the kernel's configuration allows.
    let mut companions = Vec::new();
    for name in COMPANIONS.into_iter().filter(|name| build.join(format!("{name}.ko")).exists()) {
        let depends = read_info(&build, manifest, name)?.depends;
        companions.push(BuiltCompanion { name: name.to_owned(), depends, file: keep(name)? });
    }
    let about = BuiltManifest {
        version: manifest::VERSION,
        release: manifest.release.clone(),
        depends: built.depends,
        file: keep(OWN_MODULE)?,
        companions,
    };
    manifest::write_json(&out.join(manifest::FILE), &about)?;
    lock.publish(&out, &target)?;
    sweep(root, &lock);
    Ok(about.own_module(&target))
}

/// Removes modules of kernels that the cache no longer has: one built anew is of another release, and a bisection builds many. Where that
/// fails they stay.
fn sweep(root: &Path, _: &CacheLock) {
    let Ok(kernels) = super::cached(root) else { return };
    let is_there = |release: &str| kernels.iter().any(|(_, kernel)| kernel.release == release);
    for entry in fs::read_dir(root.join("modules")).into_iter().flatten().flatten() {
        let folder = entry.path();
        let about = fs::read(folder.join(manifest::FILE)).ok();
        let about = about.and_then(|about| serde_json::from_slice::<BuiltManifest>(&about).ok());
        if about.is_some_and(|about| !is_there(&about.release)) {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

impl BuiltManifest {
    /// What lies in the folder beside it.
    fn own_module(self, folder: &Path) -> OwnModule {
        let companions = self.companions.into_iter().map(|companion| Companion {
            path: companion.file.path(folder),
            name: companion.name,
            depends: companion.depends,
        });
        OwnModule { path: self.file.path(folder), depends: self.depends, companions: companions.collect() }
    }
}

/// Where our module for this kernel is, or will be.
pub(super) fn own_module_folder(root: &Path, manifest: &Manifest) -> PathBuf {
    root.join("modules").join(format!("{}-{}", manifest.release, key(SOURCES, manifest)))
}

/// The module built before, if it is whole and for this kernel.
fn read_built(folder: &Path, manifest: &Manifest, progress: &mut dyn FnMut(&str)) -> Option<OwnModule> {
    let about: BuiltManifest = serde_json::from_slice(&fs::read(folder.join(manifest::FILE)).ok()?).ok()?;
    let version = about.version;
    let own = about.own_module(folder);
    let is_there = own.path.exists() && own.companions.iter().all(|companion| companion.path.exists());
    if version != manifest::VERSION || !is_there {
        return None;
    }
    match misfit(&own.path, &manifest.release) {
        None => Some(own),
        Some(misfit) => {
            progress(&format!("{misfit}: building it anew"));
            None
        }
    }
}

/// Why the module at `path` cannot be loaded into the kernel `release`: its vermagic names another one, or it has none.
pub(super) fn misfit(path: &Path, release: &str) -> Option<String> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let info = fs::read(path).ok().and_then(|content| ModInfo::read(&content)).unwrap_or_default();
    match info.release {
        Some(built_for) if built_for == release => None,
        Some(built_for) => {
            Some(format!("the module {name} in the cache was built for the kernel {built_for}, not {release}"))
        }
        None => Some(format!("{name} in the cache is no whole module")),
    }
}

/// What a build depends on: the sources, the packages of the kernel, the recipe.
fn key(sources: &[(&str, &str)], manifest: &Manifest) -> String {
    let mut hash = Sha256::new();
    hash.update(RECIPE.to_le_bytes());
    for (name, text) in sources {
        // Lengths keep the parts apart.
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name);
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    for package in &manifest.packages {
        hash.update(&package.sha256);
    }
    manifest::hex(hash.finalize().get(..8).unwrap_or_default())
}

/// Builds the module `name` in `build`, which has its sources and its Makefile.
pub(super) fn module(folder: &Path, manifest: &Manifest, build: &Path, name: &str) -> Result<OwnModule, KernelError> {
    // kbuild passes paths through make and the shell unquoted.
    if [folder, build].iter().any(|path| path.to_string_lossy().contains([' ', '\t', ':', '$', '#', '\''])) {
        return Err(KernelError::PathUnfit { path: folder.into() });
    }
    let flavour = folder.join(&manifest.headers.flavour);
    let common = folder.join(&manifest.headers.common);
    // The flavour's own Makefile names the common one below /usr/src, where it is not. Named here, nothing is
    // rewritten.
    let mut make = Tool::new("make", "make")
        .arg("-C")
        .arg(&flavour)
        .arg("-f")
        .arg(common.join("Makefile"))
        .arg(format!("M={}", build.display()))
        // The headers have a vmlinux and would want pahole for type information that nothing here reads.
        .arg("CONFIG_DEBUG_INFO_BTF_MODULES=")
        .arg("modules");
    if programs::find(&compiler(&flavour)?).is_none() {
        if programs::find("gcc").is_none() {
            return Err(KernelError::ToolMissing { program: "gcc", package: "gcc" });
        }
        make = make.arg("CC=gcc");
    }
    make.output()?;
    let info = read_info(build, manifest, name)?;
    Ok(OwnModule { path: build.join(format!("{name}.ko")), depends: info.depends, companions: Vec::new() })
}

/// What a module that was just built says of itself.
fn read_info(build: &Path, manifest: &Manifest, name: &str) -> Result<ModInfo, KernelError> {
    let path = build.join(format!("{name}.ko"));
    let content = fs::read(&path).map_err(|source| KernelError::io("cannot read the module built,", &path, source))?;
    let info = ModInfo::read(&content).unwrap_or_default();
    if info.release.as_deref() != Some(&manifest.release) {
        return Err(KernelError::ToolFailed {
            program: "make",
            status: "it made a module for another kernel".into(),
            message: format!("{:?} instead of {}", info.release, manifest.release),
        });
    }
    Ok(info)
}

/// The compiler that a kernel's headers ask for, such as `gcc-12`, as make itself reads it. `strict_module` of ci/test
/// has the same rule.
fn compiler(flavour: &Path) -> Result<String, KernelError> {
    let variables = flavour.join(".kernelvariables");
    if !variables.exists() {
        // A kernel of our own building, by the usual compiler.
        return Ok("gcc".into());
    }
    let variables = Tool::new("make", "make").args(["-s", "-f"]).arg(variables);
    let answer = variables.args(["--eval=plugstorm-compiler: ; @echo $(CC)", "plugstorm-compiler"]).output()?;
    Ok(answer.split_whitespace().last().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::manifest::{HeaderFolders, PackageFile};

    fn manifest() -> Manifest {
        Manifest {
            version: manifest::VERSION,
            name: "debian-6.12".into(),
            release: "r".into(),
            packages: vec![PackageFile { file: "f".into(), sha256: "ab".into() }],
            image: CachedFile { file: "bzImage".into(), sha256: String::new(), bytes: 0 },
            modules: Vec::new(),
            headers: HeaderFolders { flavour: "f".into(), common: "c".into() },
            bytes: 0,
            built: None,
        }
    }

    #[test]
    fn the_key_follows_sources_and_packages() {
        let one = key(&[("a.c", "x")], &manifest());
        assert_eq!(one, key(&[("a.c", "x")], &manifest()));
        assert_eq!(one.len(), 16);
        assert_ne!(one, key(&[("a.c", "y")], &manifest()));
        assert_ne!(one, key(&[("a.", "cx")], &manifest()));
        let mut other = manifest();
        other.packages[0].sha256 = "cd".into();
        assert_ne!(one, key(&[("a.c", "x")], &other));
    }

    #[test]
    fn modules_of_kernels_that_are_gone_are_swept() {
        let cache = tempfile::tempdir().unwrap();
        let lock = CacheLock::take(cache.path(), &mut |_| ()).unwrap();
        let kernel = cache.path().join("kernels/debian-6.12");
        fs::create_dir_all(&kernel).unwrap();
        manifest().write(&kernel).unwrap();
        let modules = |name: &str, release: &str| {
            let folder = cache.path().join("modules").join(name);
            fs::create_dir_all(&folder).unwrap();
            let file = CachedFile { file: "plugstorm.ko".into(), sha256: String::new(), bytes: 0 };
            let (release, depends, companions) = (release.into(), Vec::new(), Vec::new());
            let about = BuiltManifest { version: manifest::VERSION, release, depends, file, companions };
            manifest::write_json(&folder.join(manifest::FILE), &about).unwrap();
        };
        modules("r-1", "r");
        modules("r-2", "r");
        modules("replaced-1", "replaced");
        fs::create_dir(cache.path().join("modules/foreign")).unwrap();
        sweep(cache.path(), &lock);
        let mut left: Vec<_> =
            fs::read_dir(cache.path().join("modules")).unwrap().flatten().map(|entry| entry.file_name()).collect();
        left.sort();
        assert_eq!(left, ["foreign", "r-1", "r-2"]);
    }

    #[test]
    fn the_compiler_that_headers_ask_for() {
        let folder = tempfile::tempdir().unwrap();
        let asked = |variables: &str| {
            fs::write(folder.path().join(".kernelvariables"), variables).unwrap();
            compiler(folder.path()).unwrap()
        };
        let newer = "override ARCH = x86\nCC = $(if $(X),$(CCACHE)) $(CROSS_COMPILE)gcc-12\n\
                     override CROSS_COMPILE = x86_64-linux-gnu-\n";
        assert_eq!(asked(newer), "x86_64-linux-gnu-gcc-12");
        let native = "CC = $(if $(X),$(CCACHE)) $(CROSS_COMPILE)gcc-12\nifneq (a,a)\n\
                      override CROSS_COMPILE = $(DEB_HOST_GNU_TYPE)-\nendif\n";
        assert_eq!(asked(native), "gcc-12");
    }
}
