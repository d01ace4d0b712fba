//! Finding kernels, in caches made by hand.

use super::manifest::{CachedFile, CachedModule, HeaderFolders, Origin};
use super::*;

fn resolve_in(root: &Path, name_or_file: &str, progress: &mut dyn FnMut(&str)) -> Result<GuestKernel, KernelError> {
    super::resolve_in(root, name_or_file, &AtomicBool::new(false), progress)
}

fn module(name: &str, depends: &[&str]) -> CachedModule {
    CachedModule {
        name: name.into(),
        origin: Origin::Stock,
        depends: depends.iter().map(|name| (*name).into()).collect(),
        file: CachedFile { file: format!("stock/{name}.ko"), sha256: String::new(), bytes: 0 },
    }
}

fn cache_with_one(root: &Path) -> PathBuf {
    let folder = kernel_folder(root, "debian-6.1");
    fs::create_dir_all(&folder).unwrap();
    Manifest {
        version: manifest::VERSION,
        name: "debian-6.1".into(),
        release: "6.1.0-1-amd64".into(),
        packages: Vec::new(),
        image: CachedFile { file: "bzImage".into(), sha256: String::new(), bytes: 0 },
        modules: vec![module("virtio", &[]), module("gpio_virtio", &["virtio"]), module("9p", &[])],
        headers: HeaderFolders { flavour: "h".into(), common: "c".into() },
        bytes: 1,
        built: None,
    }
    .write(&folder)
    .unwrap();
    for name in ["virtio", "gpio_virtio", "9p"] {
        module_file(&folder.join(format!("stock/{name}.ko")), "6.1.0-1-amd64");
    }
    folder
}

/// An object with a module's vermagic.
fn module_file(path: &Path, release: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let source = path.with_extension("c");
    let text = "const char magic[] __attribute__((section(\".modinfo\"))) = \"vermagic=";
    fs::write(&source, format!("{text}{release} SMP mod_unload \";\n")).unwrap();
    let done = std::process::Command::new("gcc").arg("-c").arg(&source).arg("-o").arg(path).status().unwrap();
    assert!(done.success());
}

#[test]
fn a_name_gives_image_and_modules_in_order_and_says_what_is_missing() {
    let root = tempfile::tempdir().unwrap();
    let folder = cache_with_one(root.path());
    let kernel = resolve_in(root.path(), "debian-6.1", &mut |_| ()).unwrap();
    assert_eq!(kernel.image, folder.join("bzImage"));
    assert_eq!(kernel.file(), None);
    assert_eq!(kernel.release.as_deref(), Some("6.1.0-1-amd64"));
    assert_eq!(kernel.modules, [folder.join("stock/virtio.ko"), folder.join("stock/gpio_virtio.ko")]);
    // There are no headers in this cache, so our module cannot be built.
    assert_eq!(kernel.notes.len(), 1, "{:?}", kernel.notes);
}

#[test]
fn a_file_gets_the_modules_of_its_release() {
    let root = tempfile::tempdir().unwrap();
    cache_with_one(root.path());
    let path = root.path().join("vmlinux");
    fs::write(&path, b"\x7fELF Linux version 6.1.0-1-amd64 (x)").unwrap();
    let kernel = resolve_in(root.path(), path.to_str().unwrap(), &mut |_| ()).unwrap();
    assert_eq!((kernel.modules.len(), kernel.file()), (2, Some(path.as_path())));
    fs::write(&path, b"\x7fELF Linux version 6.2.0 (x)").unwrap();
    let kernel = resolve_in(root.path(), path.to_str().unwrap(), &mut |_| ()).unwrap();
    assert_eq!(kernel.modules, Vec::<PathBuf>::new());
    assert!(kernel.notes[0].contains("6.2.0"), "{:?}", kernel.notes);
}

#[test]
fn modules_of_another_kernel_are_left_out_and_told() {
    let root = tempfile::tempdir().unwrap();
    let folder = cache_with_one(root.path());
    module_file(&folder.join("stock/gpio_virtio.ko"), "6.1.0-2-amd64");
    let kernel = resolve_in(root.path(), "debian-6.1", &mut |_| ()).unwrap();
    assert_eq!(kernel.modules, [folder.join("stock/virtio.ko")]);
    let told = "gpio_virtio.ko in the cache was built for the kernel 6.1.0-2-amd64, not 6.1.0-1-amd64";
    assert!(kernel.notes.iter().any(|note| note.contains(told)), "{:?}", kernel.notes);
}

#[test]
fn our_module_for_another_kernel_is_built_anew() {
    let root = tempfile::tempdir().unwrap();
    let folder = cache_with_one(root.path());
    let manifest = Manifest::read(&folder).unwrap();
    let ours = build::own_module_folder(root.path(), &manifest);
    let write = |release: &str| {
        module_file(&ours.join("plugstorm.ko"), release);
        let about = serde_json::json!({"version": manifest::VERSION, "release": manifest.release, "depends": [],
                                       "file": "plugstorm.ko", "sha256": "", "bytes": 0});
        fs::write(ours.join(manifest::FILE), about.to_string()).unwrap();
        let mut told = Vec::new();
        let kernel = resolve_in(root.path(), "debian-6.1", &mut |line| told.push(line.to_owned())).unwrap();
        (kernel.modules.contains(&ours.join("plugstorm.ko")), told)
    };
    assert_eq!(write("6.1.0-1-amd64"), (true, Vec::new()));
    // It is tried, that is: there are no headers in this cache.
    let (taken, told) = write("6.1.0-2-amd64");
    assert!(!taken);
    insta::assert_snapshot!(told.join("\n"), @r"
    the module plugstorm.ko in the cache was built for the kernel 6.1.0-2-amd64, not 6.1.0-1-amd64: building it anew
    building our module for 6.1.0-1-amd64
    ");
}

#[test]
fn an_image_of_another_release_than_its_modules_is_not_booted() {
    let root = tempfile::tempdir().unwrap();
    let folder = cache_with_one(root.path());
    fs::write(folder.join("bzImage"), b"\x7fELF Linux version 6.1.0-2-amd64 (x)").unwrap();
    let error = resolve_in(root.path(), "debian-6.1", &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("its image is 6.1.0-2-amd64, and its modules are for 6.1.0-1-amd64"), "{error}");
}

#[test]
fn what_is_not_there_says_what_to_do() {
    let root = tempfile::tempdir().unwrap();
    let message = |name: &str| resolve_in(root.path(), name, &mut |_| ()).unwrap_err().to_string();
    assert!(message("debian-6.12").contains("plugstorm kernel fetch debian-6.12"));
    assert!(message("no-such-kernel").contains("no-such-kernel"));
    assert!(message("/tmp").contains("not a file"));
    assert!(message("").contains("cannot be read"));
}

#[test]
fn a_kernel_has_kunit_by_its_configuration() {
    assert!(has_kunit("CONFIG_X=y\nCONFIG_KUNIT=y\n"));
    assert!(has_kunit("CONFIG_KUNIT=m"));
    assert!(!has_kunit("# CONFIG_KUNIT is not set\nCONFIG_KUNIT_TEST=y\n"));
}
