//! Finding kernels, in caches made by hand.

use super::manifest::{CachedFile, CachedModule, HeaderFolders, Origin};
use super::*;

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
    }
    .write(&folder)
    .unwrap();
    folder
}

#[test]
fn a_name_gives_image_and_modules_in_order_and_says_what_is_missing() {
    let root = tempfile::tempdir().unwrap();
    let folder = cache_with_one(root.path());
    let kernel = resolve_in(root.path(), "debian-6.1", &mut |_| ()).unwrap();
    assert_eq!(kernel.image, folder.join("bzImage"));
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
    assert_eq!(kernel.modules.len(), 2);
    fs::write(&path, b"\x7fELF Linux version 6.2.0 (x)").unwrap();
    let kernel = resolve_in(root.path(), path.to_str().unwrap(), &mut |_| ()).unwrap();
    assert_eq!(kernel.modules, Vec::<PathBuf>::new());
    assert!(kernel.notes[0].contains("6.2.0"), "{:?}", kernel.notes);
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
