//! Fetches a kernel into the cache: packages, image, modules, headers, and the modules built for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::manifest::{self, CachedFile, CachedModule, HeaderFolders, Manifest, Origin, PackageFile};
use super::package::{Source, Wanted, control_depends};
use super::{
    GPIO_MODULE, GUEST_MODULES, GuestKernel, HOST_MODULES, KernelError, build, kernel_folder, resolve, unpack,
};
use crate::cache::{self, CacheLock};

/// The kernel's driver for virtio-gpio, in its source tree.
const GPIO_SOURCE: &str = "drivers/gpio/gpio-virtio.c";
/// What checks the style of our module in ci/test: no binary package has it.
const STYLE_SOURCES: [&str; 3] = ["scripts/checkpatch.pl", "scripts/spelling.txt", "scripts/const_structs.checkpatch"];

/// How to fetch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchOptions {
    /// Take packages from this folder of `.deb` files instead of downloading them with apt.
    pub packages: Option<PathBuf>,
}

/// Fetches the kernel `name` (`debian-6.12`) if the cache does not have it, and builds our module for it if the cache
/// does not have that either. Lines for a person go to `progress`. Ended at any moment, it leaves nothing half done.
///
/// # Errors
/// [`KernelError`].
pub fn fetch(name: &str, options: &FetchOptions, progress: &mut dyn FnMut(&str)) -> Result<GuestKernel, KernelError> {
    let wanted = Wanted::parse(name).ok_or_else(|| KernelError::UnknownName { name: name.into() })?;
    let root = cache::root();
    let folder = kernel_folder(&root, name);
    if Manifest::read(&folder).is_err() {
        let lock = CacheLock::take(&root, progress)?;
        // Whoever had the lock may have fetched this very kernel.
        if Manifest::read(&folder).is_err() {
            let source = options.packages.as_deref().map_or(Source::Apt, Source::Folder);
            download(&lock, &source, &wanted, &folder, progress)?;
        }
    }
    let manifest = Manifest::read(&folder)?;
    build::own_module(&root, &folder, &manifest, &AtomicBool::new(false), progress)?;
    progress(&format!("{name} is {}, in {}", manifest.release, folder.display()));
    resolve(name, progress)
}

fn download(
    lock: &CacheLock,
    source: &Source<'_>,
    wanted: &Wanted,
    folder: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<(), KernelError> {
    let release = source.release(wanted)?;
    progress(&format!("{} is {release}", wanted.name));
    let work = lock.workspace()?;
    let make = |name: &str| {
        let path = work.path().join(name);
        fs::create_dir(&path).map_err(|source| KernelError::io("cannot make", &path, source)).map(|()| path)
    };
    let (packages, unpacked, out) = (make("packages")?, make("unpacked")?, make("out")?);
    let mut used = Vec::new();
    let mut bring = |package: &str, progress: &mut dyn FnMut(&str)| {
        let file = source.bring(package, &packages, progress)?;
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        used.push(PackageFile { file: name, sha256: manifest::sha256(&file)?.0 });
        Ok::<_, KernelError>(file)
    };

    let image_package = format!("linux-image-{release}");
    let image = bring(&image_package, progress)?;
    let headers = HeaderFolders {
        flavour: format!("headers/usr/src/linux-headers-{release}"),
        common: bring_headers(&release, &out, &mut bring, progress)?,
    };

    progress(&format!("unpacking {image_package}"));
    unpack::package(&image, &unpacked)?;
    copy(&unpacked.join(format!("boot/vmlinuz-{release}")), &out.join("bzImage"), &image_package)?;
    copy(&unpacked.join(format!("boot/config-{release}")), &out.join("config"), &image_package)?;
    // Debian 13 and later have merged /lib into /usr.
    let tree = ["lib", "usr/lib"].map(|top| unpacked.join(top).join("modules").join(&release));
    let tree = tree.iter().find(|path| path.is_dir()).ok_or_else(|| KernelError::NotInPackage {
        package: image_package.clone(),
        what: format!("lib/modules/{release}"),
    })?;
    let index = unpack::index(tree)?;
    let stock: Vec<&str> = GUEST_MODULES.into_iter().chain(HOST_MODULES).collect();
    let modules = unpack::modules(&index, &stock, &out, "stock")?;

    let mut manifest = Manifest {
        version: manifest::VERSION,
        name: wanted.name.clone(),
        release,
        packages: Vec::new(),
        image: CachedFile::describe(&out, "bzImage")?,
        modules,
        headers,
        bytes: 0,
        built: None,
    };
    if !manifest.modules.iter().any(|module| module.name == GPIO_MODULE) {
        let file = bring(&format!("linux-source-{}", wanted.series), progress)?;
        progress(&format!("taking {GPIO_SOURCE} out of the source package, and building it"));
        let module = gpio_module(&file, work.path(), &out, &manifest)?;
        manifest.modules.push(module);
    }
    manifest.packages = used;
    manifest.bytes = folder_bytes(&out);
    manifest.write(&out)?;
    lock.publish(&out, folder)?;
    Ok(())
}

/// Brings the three packages that modules are built with, and unpacks them below `out`/headers. Gives the folder of the
/// common ones.
fn bring_headers(
    release: &str,
    out: &Path,
    bring: &mut impl FnMut(&str, &mut dyn FnMut(&str)) -> Result<PathBuf, KernelError>,
    progress: &mut dyn FnMut(&str),
) -> Result<String, KernelError> {
    let package = format!("linux-headers-{release}");
    let flavour = bring(&package, progress)?;
    let depends = unpack::control_field(&flavour, "Depends")?;
    let needed = |start: &str, end: &str| {
        control_depends(&depends)
            .find(|name| name.starts_with(start) && name.ends_with(end))
            .map(str::to_owned)
            .ok_or_else(|| KernelError::NotInPackage {
                package: package.clone(),
                what: format!("dependency on {start}…{end}"),
            })
    };
    let (common, kbuild) = (needed("linux-headers-", "-common")?, needed("linux-kbuild-", "")?);
    let target = out.join("headers");
    unpack::package(&flavour, &target)?;
    for name in [&common, &kbuild] {
        unpack::package(&bring(name, progress)?, &target)?;
    }
    Ok(format!("headers/usr/src/{common}"))
}

/// Builds the kernel's own gpio-virtio driver, unchanged, from its source package. The source is kept: a reader of a
/// stack wants to look at it.
fn gpio_module(package: &Path, work: &Path, out: &Path, manifest: &Manifest) -> Result<CachedModule, KernelError> {
    let make = |path: PathBuf| {
        fs::create_dir(&path).map_err(|source| KernelError::io("cannot make", &path, source)).map(|()| path)
    };
    let (scratch, build, built) =
        (make(work.join("source"))?, make(work.join("gpio-virtio"))?, make(out.join("built"))?);
    let source = out.join("source");
    let files: Vec<&str> = [GPIO_SOURCE].into_iter().chain(STYLE_SOURCES).collect();
    unpack::source_files(package, &scratch, &files, &source)?;
    copy(&source.join(GPIO_SOURCE), &build.join("gpio-virtio.c"), "linux-source")?;
    let makefile = build.join("Makefile");
    fs::write(&makefile, "obj-m := gpio-virtio.o\n")
        .map_err(|error| KernelError::io("cannot write", &makefile, error))?;
    let module = build::module(out, manifest, &build, "gpio-virtio")?;
    copy(&module.path, &built.join("gpio_virtio.ko"), "linux-source")?;
    Ok(CachedModule {
        name: GPIO_MODULE.into(),
        origin: Origin::SourcePackage,
        depends: module.depends,
        file: CachedFile::describe(out, "built/gpio_virtio.ko")?,
    })
}

fn copy(from: &Path, to: &Path, package: &str) -> Result<(), KernelError> {
    if !from.is_file() {
        let what = from.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        return Err(KernelError::NotInPackage { package: package.into(), what });
    }
    fs::copy(from, to).map(drop).map_err(|source| KernelError::io("cannot write", to, source))
}

/// What the files below `folder` take.
pub(super) fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
