//! Files that are something else, or damaged.

use proptest::prelude::*;

use super::*;

#[test]
fn files_that_are_something_else_are_refused_with_the_way_out() {
    let built = Built::new(&["-g"]);
    let refused = |vmlinux: Option<&str>, module: Option<&str>| {
        let modules: Vec<PathBuf> = module.iter().map(|name| built.path(name)).collect();
        Symbolizer::open(vmlinux.map(|name| built.path(name)).as_deref(), &modules).unwrap_err().to_string()
    };
    let mut bzimage = vec![0; 0x800];
    bzimage[0x202..0x206].copy_from_slice(b"HdrS");
    fs::write(built.path("bzImage"), bzimage).unwrap();
    fs::write(built.path("text"), "this is no kernel\n").unwrap();
    fs::write(built.path("a.ko"), b"\xfd7zXZ\0").unwrap();
    let whole = fs::read(built.path("vmlinux")).unwrap();
    fs::write(built.path("half"), &whole[..whole.len() / 2]).unwrap();
    fs::write(built.path("head"), &whole[..0x40]).unwrap();
    built.gcc(&[], &["-c"], &["module/gpio-fake.c"], "plain.ko");
    built.gcc(
        &["-g", "-s", "-Wl,-e,0"],
        &["-static", "-no-pie"],
        &["kernel/panic.c", "drivers/gpio/one.c", "drivers/gpio/two.c"],
        "stripped",
    );
    for (vmlinux, module, said) in [
        (Some("missing"), None, "check the path and its permissions"),
        (Some("."), None, "it is not a file"),
        (Some("bzImage"), None, "it is a bzImage"),
        (Some("text"), None, "is no ELF file"),
        (Some("gpio-fake.ko"), None, "is a module: give it with --module"),
        (None, Some("vmlinux"), "is no module: give it with --vmlinux"),
        (None, Some("a.ko"), "unpack it first"),
        (None, Some("plain.ko"), "has no debug information"),
        (Some("stripped"), None, "has no debug information"),
        (Some("half"), None, "is damaged"),
        (Some("head"), None, "is damaged"),
    ] {
        let error = refused(vmlinux, module);
        assert!(error.contains(said), "{vmlinux:?} {module:?}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever becomes of a file, it is refused, or gives what it gives.
    #[test]
    fn damaged_files_make_no_panic(
        module: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..200),
        cut in prop::option::of(any::<prop::sample::Index>()),
        from_start in prop::option::of(0..64_usize),
    ) {
        thread_local! { static BUILT: Built = Built::new(&["-g"]); }
        BUILT.with(|built| {
            let source = built.path(if module { "gpio-fake.ko" } else { "vmlinux" });
            let mut bytes = fs::read(source).unwrap();
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            for (at, value) in &changes {
                let reach = from_start.map_or(bytes.len(), |start| (start + 4096).min(bytes.len()));
                if reach > 0 {
                    bytes[at.index(reach)] = *value;
                }
            }
            let path = built.path("damaged.ko");
            fs::write(&path, &bytes).unwrap();
            let modules: &[PathBuf] = if module { std::slice::from_ref(&path) } else { &[] };
            let vmlinux = (!module).then_some(path.as_path());
            if let Ok(mut symbolizer) = Symbolizer::open(vmlinux, modules) {
                let log = "Kernel Offset: 0x1e600000 from 0x1\n gpiochip_remove+0x1/0x20\n fake_remove+0x3/0x20 [damaged]\n\
                           CPU: 0 PID: 1 Comm: a 6.12.0-test #1";
                symbolizer.compare(&facts(log));
                for (_, image) in symbolizer.images() {
                    image.is_other_build.set(false);
                }
                for name in ["gpiochip_remove", "same_name", "start", "fake_remove", "fake_exit"] {
                    for offset in 0..24 {
                        let place = Place { function: name.into(), offset, size: None, module: module.then(|| "damaged".into()), build_id: None };
                        let _ = symbolizer.frames(&place, true);
                    }
                }
                let _ = symbolizer.notes();
            }
        });
    }
}
