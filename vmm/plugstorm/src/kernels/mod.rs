//! Guest kernels: fetched from Debian's packages into the cache, or any image file; with the modules that go with them.

mod build;
mod compile;
mod debug;
mod error;
mod fetch;
mod image;
mod manifest;
mod modinfo;
mod package;
mod tool;
mod unpack;
mod watchers;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::Serialize;

use crate::cache;
use manifest::Manifest;
use modinfo::load_order;

pub use compile::{
    BuildError, BuildOptions, BuildOutcome, BuildStep, KernelSource, SOURCE_MARKS, build_kernel, own_patches,
};
pub(crate) use debug::debug_files;
pub use error::KernelError;
pub use fetch::{FetchOptions, fetch};
pub(crate) use modinfo::{ModInfo, canonical};

/// The kernel that the nested host runs on if it is there.
pub const HOST_KERNEL: &str = "debian-6.12";

/// Our own module.
const OWN_MODULE: &str = "plugstorm";
/// Its self-tests, for kernels with KUnit.
const SELF_TESTS: &str = "plugstorm_kunit";
/// What measures its designs.
const MEASURES: &str = "plugstorm_bench";
/// What is built with our module, where the kernel's configuration allows it.
const COMPANIONS: [&str; 2] = [SELF_TESTS, MEASURES];
/// The kernel's own measures of grace periods and of readers (CONFIG_RCU_SCALE_TEST, CONFIG_RCU_REF_SCALE_TEST).
const SCALE_TESTS: [&str; 2] = ["rcuscale", "refscale"];
/// The kernel's driver for virtio-gpio, which Debian's kernels leave out.
pub(crate) const GPIO_MODULE: &str = "gpio_virtio";
/// What a guest loads. Ours first: its device ids are narrower than those of the kernel's own driver, which takes every
/// vendor's device. The last two are built into some kernels.
const GUEST_MODULES: [&str; 4] = [OWN_MODULE, GPIO_MODULE, "virtio_pci", "virtio_console"];
/// What the nested host loads: QEMU's software emulation offers AMD's SVM.
const HOST_MODULES: [&str; 5] = ["virtio_pci", "virtio_console", "kvm_amd", "9p", "9pnet_virtio"];

/// A kernel to boot, with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct GuestKernel {
    /// Its name in the cache, or the file as it was given.
    pub name: String,
    /// The bzImage or vmlinux.
    pub image: PathBuf,
    /// `uname -r`, where the image says so.
    pub release: Option<String>,
    /// Modules to load, in this order; uncompressed.
    pub modules: Vec<PathBuf>,
    /// The same and the self-tests of our module, which run as soon as they are loaded; none if the kernel has no KUnit.
    pub self_tests: Vec<PathBuf>,
    /// [`Self::modules`] and the module that measures our designs; none if there is no such module for this kernel.
    pub measures: Vec<PathBuf>,
    /// The kernel's own measures of RCU, `rcuscale` and `refscale`, and what they need, in the order in which they can be loaded; as
    /// far as the kernel has them as modules.
    pub scale_tests: Vec<PathBuf>,
    /// Options of its configuration by which it watches itself (`CONFIG_KASAN`): times on it are of no use. Empty where the cache
    /// does not have its configuration.
    pub watchers: Vec<String>,
    /// Why a module that guests want is not there: a sentence each.
    pub notes: Vec<String>,
    /// It was given as a file. Not told by its path: that may be made absolute later.
    #[serde(skip)]
    pub(crate) is_file: bool,
}

impl GuestKernel {
    /// The image of a kernel that was given as a file; none for one of the cache, which goes by its name everywhere that
    /// shares the cache.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.is_file.then_some(&self.image)
    }
}

/// A kernel in the cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KernelListing {
    /// What to call it by.
    pub name: String,
    /// `uname -r`.
    pub release: String,
    /// Its folder.
    pub folder: PathBuf,
    /// What the folder takes on disk, headers included.
    pub bytes: u64,
    /// What it was built of, if `kernel build` did it.
    pub built: Option<String>,
}

/// What the nested host boots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostKernel {
    pub(crate) image: PathBuf,
    pub(crate) modules: Vec<PathBuf>,
}

/// Finds a kernel by its name in the cache, or takes a file. Builds our module for it if the cache does not have it
/// yet; lines about that for a person go to `progress`.
///
/// # Errors
/// [`KernelError`]: neither a name in the cache nor a file, or the cache cannot be read. A module that cannot be had is
/// no error but one of [`GuestKernel::notes`].
pub fn resolve(name_or_file: &str, progress: &mut dyn FnMut(&str)) -> Result<GuestKernel, KernelError> {
    resolve_in(&cache::root(), name_or_file, &AtomicBool::new(false), progress)
}

/// The same, in the cache `root`. A wait for its lock ends when `interrupt` is set.
fn resolve_in(
    root: &Path,
    name_or_file: &str,
    interrupt: &AtomicBool,
    progress: &mut dyn FnMut(&str),
) -> Result<GuestKernel, KernelError> {
    let is_name = !name_or_file.is_empty() && !name_or_file.contains('/');
    if is_name && kernel_folder(root, name_or_file).join(manifest::FILE).exists() {
        let folder = kernel_folder(root, name_or_file);
        let manifest = Manifest::read(&folder)?;
        let image = manifest.image.path(&folder);
        if let Ok(Some(release)) = image::release(&image)
            && release != manifest.release
        {
            let reason = format!("its image is {release}, and its modules are for {}", manifest.release);
            return Err(KernelError::CacheBroken { folder, reason });
        }
        let found = guest_modules(root, &folder, &manifest, interrupt, progress);
        return Ok(GuestKernel {
            name: manifest.name,
            image,
            release: Some(manifest.release),
            modules: found.modules,
            self_tests: found.self_tests,
            measures: found.measures,
            scale_tests: found.scale_tests,
            watchers: watchers::of(&folder),
            notes: found.notes,
            is_file: false,
        });
    }
    let path = Path::new(name_or_file);
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => from_file(root, path, interrupt, progress),
        Ok(_) => Err(KernelError::NotAFile { path: path.into() }),
        Err(_) if is_name && package::Wanted::parse(name_or_file).is_some() => {
            Err(KernelError::NotFetched { name: name_or_file.into(), root: root.into() })
        }
        Err(source) => Err(KernelError::Unreadable { path: path.into(), source }),
    }
}

fn from_file(
    root: &Path,
    path: &Path,
    interrupt: &AtomicBool,
    progress: &mut dyn FnMut(&str),
) -> Result<GuestKernel, KernelError> {
    let release = image::release(path).map_err(|source| KernelError::Unreadable { path: path.into(), source })?;
    let mut kernel = GuestKernel {
        name: path.display().to_string(),
        image: path.to_path_buf(),
        release: release.clone(),
        modules: Vec::new(),
        self_tests: Vec::new(),
        measures: Vec::new(),
        scale_tests: Vec::new(),
        watchers: Vec::new(),
        notes: Vec::new(),
        is_file: true,
    };
    let Some(release) = release else {
        kernel.notes.push(format!("{} does not say which release it is, so no modules go with it", path.display()));
        return Ok(kernel);
    };
    match cached(root)?.into_iter().find(|(_, manifest)| manifest.release == release) {
        Some((folder, manifest)) => {
            let found = guest_modules(root, &folder, &manifest, interrupt, progress);
            (kernel.modules, kernel.self_tests, kernel.notes) = (found.modules, found.self_tests, found.notes);
            (kernel.measures, kernel.scale_tests) = (found.measures, found.scale_tests);
            kernel.watchers = watchers::of(&folder);
        }
        None => kernel.notes.push(format!(
            "no kernel in the cache has the release {release} of {}, so no modules go with it",
            path.display()
        )),
    }
    Ok(kernel)
}

/// The kernels in the cache, by name. A folder that another version of plugstorm wrote is not listed.
///
/// # Errors
/// [`KernelError`] if the cache is there and cannot be read.
pub fn list() -> Result<Vec<KernelListing>, KernelError> {
    let mut listings = Vec::new();
    for (folder, manifest) in cached(&cache::root())? {
        let Manifest { name, release, bytes, built, .. } = manifest;
        listings.push(KernelListing { name, release, folder, bytes, built: built.map(|built| built.about()) });
    }
    Ok(listings)
}

/// Removes a kernel that was built from the cache. Nothing is done if there is none of this name, or one that was fetched.
///
/// # Errors
/// [`KernelError`] if the cache cannot be written.
pub fn remove(name: &str, progress: &mut dyn FnMut(&str)) -> Result<(), KernelError> {
    remove_in(&cache::root(), name, progress)
}

fn remove_in(root: &Path, name: &str, progress: &mut dyn FnMut(&str)) -> Result<(), KernelError> {
    let folder = kernel_folder(root, name);
    let is_built = || Manifest::read(&folder).is_ok_and(|manifest| manifest.built.is_some());
    if !is_built() {
        return Ok(());
    }
    let lock = cache::CacheLock::take(root, progress)?;
    // Gone for everybody at once, and then file by file.
    let aside = lock.workspace()?;
    match is_built() {
        true => fs::rename(&folder, aside.path().join(name))
            .map_err(|source| KernelError::io("cannot remove", &folder, source)),
        false => Ok(()),
    }
}

/// The first kernel in the cache whose configuration has KUnit, by name.
///
/// # Errors
/// [`KernelError`] if the cache is there and cannot be read.
pub fn with_kunit() -> Result<Option<String>, KernelError> {
    let kernels = cached(&cache::root())?;
    let found = kernels.into_iter().find(|(folder, manifest)| {
        let config = fs::read(folder.join(&manifest.headers.flavour).join(".config")).unwrap_or_default();
        has_kunit(&String::from_utf8_lossy(&config))
    });
    Ok(found.map(|(_, manifest)| manifest.name))
}

fn has_kunit(config: &str) -> bool {
    config.lines().any(|line| matches!(line, "CONFIG_KUNIT=y" | "CONFIG_KUNIT=m"))
}

/// The kernel and modules of the nested host: [`HOST_KERNEL`], or else any in the cache that can do it.
pub(crate) fn host_kernel() -> Result<HostKernel, KernelError> {
    let root = cache::root();
    let mut candidates = cached(&root)?;
    candidates.sort_by_key(|(_, manifest)| manifest.name != HOST_KERNEL);
    for (folder, manifest) in candidates {
        let files = stock_files(&folder, &manifest);
        if ["kvm_amd", "9p", "9pnet_virtio"].iter().all(|name| files.contains_key(*name)) {
            let order = load_order(&HOST_MODULES, &dependencies(&manifest));
            let modules = order.iter().filter_map(|name| files.get(name).cloned()).collect();
            return Ok(HostKernel { image: manifest.image.path(&folder), modules });
        }
    }
    Err(KernelError::NotFetched { name: HOST_KERNEL.into(), root })
}

fn kernel_folder(root: &Path, name: &str) -> PathBuf {
    root.join("kernels").join(name)
}

/// Readable kernels of the cache, by name.
fn cached(root: &Path) -> Result<Vec<(PathBuf, Manifest)>, KernelError> {
    let folder = root.join("kernels");
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(KernelError::io("cannot read", &folder, source)),
    };
    let mut kernels: Vec<_> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter_map(|path| Manifest::read(&path).ok().map(|manifest| (path, manifest)))
        .collect();
    kernels.sort_by(|one, other| one.1.name.cmp(&other.1.name));
    Ok(kernels)
}

fn stock_files(folder: &Path, manifest: &Manifest) -> BTreeMap<String, PathBuf> {
    manifest.modules.iter().map(|module| (module.name.clone(), module.file.path(folder))).collect()
}

fn dependencies(manifest: &Manifest) -> BTreeMap<String, Vec<String>> {
    manifest.modules.iter().map(|module| (module.name.clone(), module.depends.clone())).collect()
}

/// The modules a guest of a kernel loads.
struct GuestModules {
    modules: Vec<PathBuf>,
    self_tests: Vec<PathBuf>,
    measures: Vec<PathBuf>,
    scale_tests: Vec<PathBuf>,
    notes: Vec<String>,
}

/// The modules a guest of this kernel loads, in order, and why one is missing.
fn guest_modules(
    root: &Path,
    folder: &Path,
    manifest: &Manifest,
    interrupt: &AtomicBool,
    progress: &mut dyn FnMut(&str),
) -> GuestModules {
    let mut files = stock_files(folder, manifest);
    let mut depends = dependencies(manifest);
    let mut notes = Vec::new();
    let mut companions = Vec::new();
    let canonical = |names: &[String]| names.iter().map(|name| canonical(name)).collect();
    match build::own_module(root, folder, manifest, interrupt, progress) {
        Ok(own) => {
            depends.insert(OWN_MODULE.into(), canonical(&own.depends));
            files.insert(OWN_MODULE.into(), own.path);
            for companion in own.companions {
                depends.insert(companion.name.clone(), canonical(&companion.depends));
                files.insert(companion.name.clone(), companion.path);
                companions.push(companion.name);
            }
        }
        Err(error) => notes.push(format!("our module is not there for {}: {error}", manifest.release)),
    }
    let mut in_order = |wanted: &[&str]| -> Vec<PathBuf> {
        let order = load_order(wanted, &depends);
        let mut paths: Vec<_> = order.iter().filter_map(|name| files.get(name).cloned()).collect();
        paths.retain(|path| {
            // The guest's kernel would refuse it, in a line that nobody connects with this.
            let misfit = build::misfit(path, &manifest.release);
            let fits = misfit.is_none();
            let note = misfit.map(|misfit| format!("{misfit}: remove {} and get the kernel again", folder.display()));
            notes.extend(note.filter(|note| !notes.contains(note)));
            fits
        });
        paths
    };
    let modules = in_order(&GUEST_MODULES);
    // Last of all: by then there is a console for what they print.
    let mut with = |companion: &str| {
        let there = companions.iter().any(|name| name == companion);
        if there { in_order(&[&GUEST_MODULES[..], &[companion]].concat()) } else { Vec::new() }
    };
    let (self_tests, measures) = (with(SELF_TESTS), with(MEASURES));
    let scale_tests = in_order(&SCALE_TESTS);
    GuestModules { modules, self_tests, measures, scale_tests, notes }
}

#[cfg(test)]
mod tests;
