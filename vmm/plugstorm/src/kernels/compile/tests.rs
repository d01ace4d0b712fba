//! Building kernels of trees made by hand: a Makefile that does what a kernel's does, in no time.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::*;

const KCONFIG: &str = "config EXPERT\n\tbool \"e\"\nconfig SLUB_TINY\n\tbool \"t\"\n\tdepends on EXPERT\nconfig KASAN\n\tbool \"k\"\n\
\tdepends on !SLUB_TINY\nconfig LOCALVERSION\n\tstring \"l\"\nconfig BREAK\n\tbool \"b\"\nconfig FULL\n\tbool \"f\"\n\
config PROVE_LOCKING\n\tbool \"p\"\n";

/// Takes the configuration as it is asked for, but for KASAN beside SLUB_TINY; makes an image that names its release.
const MAKEFILE: &str = r#"
release = 6.99$(shell cat localversion* 2>/dev/null)$(shell sed -n 's/^CONFIG_LOCALVERSION="\(.*\)"/\1/p' .config)
mrproper:
	rm -f .config
allnoconfig:
	cp $(KCONFIG_ALLCONFIG) .config
	! grep -q SLUB_TINY=y .config || sed -i s/CONFIG_KASAN=y// .config
olddefconfig:
bzImage: modules
modules:
	@echo '  CC      init/main.o'
	@! grep -q BREAK=y .config || { echo 'init/main.c:1:1: error: broken'; exit 1; }
	@! grep -q FULL=y .config || { echo 'ld: final link failed: No space left on device'; exit 1; }
	mkdir -p include/config arch/x86/boot arch/x86/include scripts
	echo $(release) >include/config/kernel.release
	printf '\177ELF Linux version $(release) (x)' >arch/x86/boot/bzImage
	touch System.map Module.symvers arch/x86/Makefile
"#;

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        for (name, text) in [
            ("source/Makefile", MAKEFILE),
            ("source/Kconfig", KCONFIG),
            ("source/scripts/kconfig/Makefile", ""),
            ("source/arch/x86/Kconfig", ""),
            ("source/init/main.c", "one\ntwo\nthree\n"),
            ("kasan.config", "CONFIG_KASAN=y\n"),
        ] {
            bench.file(name, text);
        }
        bench
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn options(&self, configs: &[&str]) -> BuildOptions {
        let source = self.folder.path().join("source");
        BuildOptions {
            source: KernelSource::parse(source.to_str().unwrap()).unwrap(),
            configs: configs.iter().map(|name| self.folder.path().join(name).display().to_string()).collect(),
            no_base: true,
            patches: Vec::new(),
            no_fixups: false,
            jobs: 1,
            packages: None,
            check: false,
        }
    }

    /// The source as it is now, as a commit of the repository that it is from the first one on.
    fn commit(&self, message: &str) -> KernelSource {
        let source = self.folder.path().join("source");
        let git = |args: &[&str]| crate::git::ask(&source, args).unwrap();
        git(&["init", "-q"]);
        git(&["add", "."]);
        git(&["-c", "user.name=a", "-c", "user.email=a", "commit", "-q", "--allow-empty", "-m", message]);
        let repository = crate::git::repository(&source).unwrap();
        KernelSource::Commit { repository, commit: git(&["rev-parse", "HEAD"]) }
    }

    fn build(&self, options: &BuildOptions) -> (Result<BuildOutcome, BuildError>, String) {
        let interrupt = AtomicBool::new(false);
        let mut told = String::new();
        let mut show = |step: BuildStep<'_>| {
            if let BuildStep::Line(line) = step {
                told += line;
                told += "\n";
            }
        };
        let outcome = build_in(&self.root(), "mine", options, &mut Watch::new(&self.root(), &interrupt, &mut show));
        (outcome, told)
    }

    /// Why it fails; and that it leaves nothing behind, in the cache or in the source.
    fn fails(&self, options: &BuildOptions) -> String {
        let before = (contents(&self.root().join("kernels")), contents(&self.folder.path().join("source")));
        let error = self.build(options).0.unwrap_err().to_string();
        let after = (contents(&self.root().join("kernels")), contents(&self.folder.path().join("source")));
        assert_eq!(after, before, "{error}");
        assert_eq!(contents(&self.root().join("builds")).len(), 0, "{error}");
        error.replace(&self.folder.path().display().to_string(), "…")
    }
}

/// All files below a folder.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(top: &Path, folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(top, &path, found);
            } else {
                found.insert(path.strip_prefix(top).unwrap().into(), fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, folder, &mut found);
    found
}

#[test]
fn a_kernel_is_built_once_and_again_when_something_of_it_changes() {
    let bench = Bench::new();
    let options = bench.options(&["kasan.config"]);
    let before = contents(&bench.folder.path().join("source"));
    let (outcome, _) = bench.build(&options);
    let BuildOutcome::Kernel(kernel) = outcome.unwrap() else { panic!("it was only checked") };
    let release = kernel.release.unwrap();
    assert!(release.starts_with("6.99-mine-"), "{release}");
    assert_eq!(kernel.image, bench.root().join("kernels/mine/bzImage"));
    assert_eq!(contents(&bench.folder.path().join("source")), before);

    let (outcome, told) = bench.build(&options);
    assert!(outcome.is_ok() && told.contains("\nmine was built of the same before\n"), "{told}");

    bench.file("source/init/main.c", "changed");
    let (outcome, told) = bench.build(&options);
    let BuildOutcome::Kernel(kernel) = outcome.unwrap() else { panic!("it was only checked") };
    assert_ne!(kernel.release.unwrap(), release, "{told}");

    let manifest = Manifest::read(&bench.root().join("kernels/mine")).unwrap();
    let built = manifest.built.unwrap();
    assert_eq!((built.objects, built.fragments.len()), (1, 1));
    assert!(bench.root().join("kernels/mine/build.log").exists());
}

#[test]
fn a_commit_is_built_as_it_was_committed() {
    let bench = Bench::new();
    let source = bench.folder.path().join("source");
    let [one, two] = ["one", "two"].map(|message| bench.commit(message));
    bench.file("source/init/main.c", "another\n");
    let three = bench.commit("three");
    bench.file("source/Makefile", "not committed");
    let before = contents(&source);
    let build = |source: KernelSource| {
        let (outcome, told) = bench.build(&BuildOptions { source, ..bench.options(&["kasan.config"]) });
        let BuildOutcome::Kernel(kernel) = outcome.unwrap() else { panic!("it was only checked") };
        (kernel.release.unwrap(), told.contains("was built of the same before"))
    };
    let (release, _) = build(one);
    assert!(release.starts_with("6.99-mine-"), "{release}");
    // The release is no option: what ccache knows of one commit it knows of the next.
    let config = fs::read_to_string(bench.root().join("kernels/mine/config")).unwrap();
    assert!(!config.contains("LOCALVERSION"), "{config}");
    assert_eq!(build(two), (release.clone(), true));
    assert_ne!(build(three).0, release);
    assert_eq!(contents(&source), before);
    // And gone again, by its name.
    crate::kernels::remove_in(&bench.root(), "mine", &mut |_| ()).unwrap();
    assert!(!bench.root().join("kernels/mine").exists());
    crate::kernels::remove_in(&bench.root(), "mine", &mut |_| ()).unwrap();
}

#[test]
fn a_check_builds_nothing() {
    let bench = Bench::new();
    let options = BuildOptions { check: true, ..bench.options(&["kasan.config"]) };
    let (outcome, told) = bench.build(&options);
    assert_eq!(outcome.unwrap(), BuildOutcome::Checked, "{told}");
    assert!(!bench.root().join("kernels").exists());
}

#[test]
fn an_option_that_another_one_drops_is_an_error_that_says_so() {
    let bench = Bench::new();
    bench.file("tiny.config", "CONFIG_EXPERT=y\nCONFIG_SLUB_TINY=y\n");
    insta::assert_snapshot!(bench.fails(&bench.options(&["kasan.config", "tiny.config"])), @r"
    the configuration is not what was asked for, so nothing was built:
      CONFIG_KASAN=y, asked for by …/kasan.config, came out as n: it depends on !SLUB_TINY, and SLUB_TINY is y (by …/tiny.config)
    ");
}

#[test]
fn a_patch_that_does_not_apply_leaves_no_half_patched_tree() {
    let bench = Bench::new();
    let hunk = |to: &str| format!("--- a/init/main.c\n+++ b/init/main.c\n@@ -1,3 +1,3 @@\n one\n-two\n+{to}\n three\n");
    let mail = |number: u32, to: &str| {
        format!("From 0 Mon Sep 17 00:00:00 2001\nSubject: [PATCH {number}/2] change\n\n---\n{}-- \n2\n\n", hunk(to))
    };
    let patch = bench.file("series.mbox", &(mail(1, "2") + &mail(2, "zwei")));
    let options = BuildOptions { patches: vec![patch], ..bench.options(&["kasan.config"]) };
    let error = bench.fails(&options);
    let expected = "patch 2 of 2 in …/series.mbox (\"[PATCH 2/2] change\") does not apply to …/source: init/main.c: hunk 1 at \
                    line 1 failed; nothing of it is kept";
    assert_eq!(error, expected);
}

/// Where our patch for pciehp goes, and what it is against.
const PCIEHP: [(&str, &str); 2] = [
    (
        "source/drivers/pci/hotplug/pciehp_hpc.c",
        "\tmutex_init(&ctrl->ctrl_lock);\n\tmutex_init(&ctrl->state_lock);\n\tinit_rwsem(&ctrl->reset_lock);\n\
         \tinit_waitqueue_head(&ctrl->requester);\n\tinit_waitqueue_head(&ctrl->queue);\n\
         \tINIT_DELAYED_WORK(&ctrl->button_work, pciehp_queue_pushbutton_work);\n",
    ),
    ("source/drivers/pci/hotplug/pciehp_pci.c", "\tup_read(&ctrl->reset_lock);\n"),
];
const PCIEHP_PATCH: &str = "6.12-pciehp-lockdep.patch";
const LEFT_OUT: &str =
    "our patch 6.12-pciehp-lockdep.patch (\"PCI: pciehp: keep lockdep on after the first hot-plug\") is left out:";

/// A bench whose source has pciehp, and options with lockdep; the image tells whether the patch is in what was compiled.
fn with_pciehp() -> (Bench, BuildOptions) {
    let bench = Bench::new();
    bench.file("lockdep.config", "CONFIG_PROVE_LOCKING=y\n");
    for (name, text) in PCIEHP {
        bench.file(name, text);
    }
    let count = "grep -c novalidate drivers/pci/hotplug/pciehp_hpc.c";
    bench.file(
        "source/Makefile",
        &(MAKEFILE.to_owned() + &format!("\techo patched: $$({count}) >>arch/x86/boot/bzImage\n")),
    );
    let options = bench.options(&["lockdep.config"]);
    (bench, options)
}

impl Bench {
    /// What was told of our patch and the user's, and whether ours is in the kernel that was built, by its image and its manifest.
    fn patched(&self, options: &BuildOptions) -> (Vec<String>, bool) {
        let (outcome, told) = self.build(options);
        assert!(outcome.is_ok(), "{outcome:?} {told}");
        let folder = self.root().join("kernels/mine");
        let manifest = Manifest::read(&folder).unwrap();
        let packages: Vec<_> = manifest.packages.into_iter().map(|package| package.file).collect();
        let patches = manifest.built.unwrap().patches;
        assert!(patches.iter().all(|patch| packages.contains(patch)) && packages.len() == 2 + patches.len());
        let image = fs::read(folder.join("bzImage")).unwrap();
        let is_in = String::from_utf8_lossy(&image).contains("patched: 1");
        let lines = told.lines().filter(|line| line.contains("patch"));
        let place = self.folder.path().display().to_string();
        assert!(
            patches.contains(&PCIEHP_PATCH.to_owned()) == told.contains(&format!("{PCIEHP_PATCH} applied")),
            "{told}"
        );
        (lines.map(|line| line.replace(&place, "…")).collect(), is_in)
    }
}

/// Lockdep reports pciehp's own lock at the first hot-plug of an unpatched kernel and is off from then on. When ci/recipes/pipeline was
/// run on a user's tree, each run found that in its first cycle, whatever else it found.
#[test]
fn a_tree_of_the_users_gets_our_patches_where_they_fit() {
    let (bench, options) = with_pciehp();
    let source = contents(&bench.folder.path().join("source"));
    let applied = vec![format!("{PCIEHP_PATCH} applied (1 patch)")];
    assert_eq!(bench.patched(&options), (applied.clone(), true));
    assert_eq!(contents(&bench.folder.path().join("source")), source);
    // It is told of a kernel that is there already, too.
    assert_eq!(bench.patched(&options), (applied, true));
    assert_eq!(bench.patched(&BuildOptions { no_fixups: true, ..options.clone() }), (vec![], false));
    assert_eq!(bench.patched(&bench.options(&["kasan.config"])), (vec![], false));

    let [(place, text), (cause, _)] = PCIEHP;
    bench.file(place, &text.replace("init_rwsem", "init_another"));
    let told = "it does not fit …/source: drivers/pci/hotplug/pciehp_hpc.c: hunk 1 at line 1007 failed";
    assert_eq!(bench.patched(&options), (vec![format!("{LEFT_OUT} {told}")], false));
    // A kernel of that key is no kernel for whoever wants that patch.
    let own = bench.file(PCIEHP_PATCH, own_patches().next().unwrap().1);
    let wanted = BuildOptions { no_fixups: true, patches: vec![own], ..options.clone() };
    assert!(bench.fails(&wanted).contains("hunk 1 at line 1007 failed"));

    bench.file(place, text);
    bench.file(cause, "\tdown_read(&ctrl->reset_lock);\n");
    let told = "…/source has no `up_read(&ctrl->reset_lock);` in drivers/pci/hotplug/pciehp_pci.c, which it is against";
    assert_eq!(bench.patched(&options), (vec![format!("{LEFT_OUT} {told}")], false));
    fs::remove_file(bench.folder.path().join(cause)).unwrap();
    assert_eq!(bench.patched(&options), (vec![format!("{LEFT_OUT} {told}")], false));
}

#[test]
fn our_patches_give_way_to_the_users() {
    let (bench, options) = with_pciehp();
    let own = bench.file("same.patch", own_patches().next().unwrap().1);
    let same = BuildOptions { patches: vec![own], ..options.clone() };
    let told = vec!["…/same.patch applied (1 patch)".to_owned(), format!("{LEFT_OUT} …/source has it already")];
    assert_eq!(bench.patched(&same), (told, true));

    let [(place, text), _] = PCIEHP;
    let lines: Vec<_> = text.lines().collect();
    let context = |at: usize| lines.get(at).copied().unwrap();
    let file = place.strip_prefix("source/").unwrap();
    let hunk = format!("@@ -2,3 +2,2 @@\n {}\n-{}\n {}\n", context(1), context(2), context(3));
    let mine = bench.file("mine.patch", &format!("--- a/{file}\n+++ b/{file}\n{hunk}"));
    let near = BuildOptions { patches: vec![mine], ..options.clone() };
    let told = bench.patched(&near);
    assert!(told.0.len() == 2 && told.0[0] == "…/mine.patch applied (1 patch)" && !told.1, "{told:?}");
    assert!(told.0[1].starts_with(&format!("{LEFT_OUT} it does not fit …/source: ")), "{told:?}");

    let (outcome, told) = bench.build(&BuildOptions { check: true, ..near });
    assert_eq!(outcome.unwrap(), BuildOutcome::Checked);
    assert!(told.contains("patch files that apply: 1; all 2 options are as they were asked for"), "{told}");
}

#[test]
fn a_commit_gets_our_patches_too() {
    let (bench, options) = with_pciehp();
    let options = BuildOptions { source: bench.commit("one"), ..options };
    assert_eq!(bench.patched(&options), (vec![format!("{PCIEHP_PATCH} applied (1 patch)")], true));
    assert_eq!(bench.patched(&BuildOptions { no_fixups: true, ..options }), (vec![], false));
}

#[test]
fn what_does_not_compile_is_told_with_its_log() {
    let bench = Bench::new();
    bench.file("break.config", "CONFIG_BREAK=y\n");
    let error = bench.fails(&bench.options(&["break.config"]));
    assert!(error.contains("init/main.c:1:1: error: broken"), "{error}");
    assert!(error.ends_with("all that was said is in …/cache/logs/kernel-mine.log"), "{error}");
    assert!(bench.root().join("logs/kernel-mine.log").exists());
}

#[test]
fn a_full_disk_is_told() {
    let bench = Bench::new();
    bench.file("full.config", "CONFIG_FULL=y\n");
    insta::assert_snapshot!(
        bench.fails(&bench.options(&["full.config"])),
        @"no space was left in …/cache while compiling: free some, or set PLUGSTORM_CACHE to a folder on a larger disk; the cache is as it was before"
    );
}

#[test]
fn an_interrupted_build_leaves_the_kernel_that_was_there() {
    let bench = Bench::new();
    assert!(bench.build(&bench.options(&["kasan.config"])).0.is_ok());
    let before = contents(&bench.root().join("kernels"));
    bench.file("slow.config", "CONFIG_EXPERT=y\n");
    bench.file("source/Makefile", &(MAKEFILE.to_owned() + "\t@echo '  CC      slow.o'\n\t@sleep 60\n"));
    let interrupt = AtomicBool::new(false);
    let began = Instant::now();
    let mut show = |step: BuildStep<'_>| {
        if matches!(step, BuildStep::Now(text) if text.contains("slow.o")) {
            interrupt.store(true, Ordering::Relaxed);
        }
    };
    let options = bench.options(&["slow.config"]);
    let mut watch = Watch::new(&bench.root(), &interrupt, &mut show);
    let error = build_in(&bench.root(), "mine", &options, &mut watch).unwrap_err();
    assert!(matches!(error, BuildError::Interrupted), "{error}");
    assert!(began.elapsed().as_secs() < 30);
    assert_eq!(contents(&bench.root().join("kernels")), before);
    assert!(!bench.root().join("builds/linux").exists());
}

/// Builds while another process has the lock; `meanwhile` happens when that is told, and then it is given back.
fn build_after(bench: &Bench, options: &BuildOptions, meanwhile: &mut dyn FnMut()) -> String {
    let mut held = Some(CacheLock::take_for_builds(&bench.root(), &AtomicBool::new(false), &mut |_| ()).unwrap());
    let interrupt = AtomicBool::new(false);
    let mut told = String::new();
    let mut show = |step: BuildStep<'_>| {
        let BuildStep::Line(line) = step else { return };
        told += line;
        told += "\n";
        if line.starts_with("waiting for another") {
            drop(held.take());
            meanwhile();
        }
    };
    build_in(&bench.root(), "mine", options, &mut Watch::new(&bench.root(), &interrupt, &mut show)).unwrap();
    told
}

#[test]
fn a_source_that_changed_after_it_was_looked_at_is_what_it_was_when_it_was_copied() {
    let bench = Bench::new();
    let options = bench.options(&["kasan.config"]);
    let told = build_after(&bench, &options, &mut || drop(bench.file("source/init/main.c", "changed")));
    assert!(told.contains("waiting") && told.contains("1 objects compiled"), "{told}");
    let told = bench.build(&options).1;
    assert!(told.contains("mine was built of the same before"), "{told}");
}

#[test]
fn what_another_process_built_meanwhile_is_not_built_again() {
    let bench = Bench::new();
    let options = bench.options(&["kasan.config"]);
    let told = build_after(&bench, &options, &mut || assert!(bench.build(&options).0.is_ok()));
    assert!(told.contains("mine was built of the same before") && !told.contains("compiled"), "{told}");
}

#[test]
fn a_signal_ends_the_wait_for_another_process() {
    let bench = Bench::new();
    let _held = CacheLock::take_for_builds(&bench.root(), &AtomicBool::new(false), &mut |_| ()).unwrap();
    let interrupt = AtomicBool::new(false);
    let mut show = |step: BuildStep<'_>| {
        if matches!(step, BuildStep::Line(line) if line.starts_with("waiting for another")) {
            interrupt.store(true, Ordering::Relaxed);
        }
    };
    let mut watch = Watch::new(&bench.root(), &interrupt, &mut show);
    let error = build_in(&bench.root(), "mine", &bench.options(&["kasan.config"]), &mut watch).unwrap_err();
    assert!(matches!(error, BuildError::Interrupted), "{error}");
}

#[test]
fn names_are_folders_and_no_fetched_kernels() {
    for name in ["", ".", "-x", "a/b", "Debug", "a b", "debian-6.12", &"x".repeat(33)] {
        assert!(matches!(fit(name), Err(BuildError::Name { .. })), "{name}");
    }
    for name in ["debug", "6.12-mine", "a_b.c", "debian-mine"] {
        assert!(fit(name).is_ok(), "{name}");
    }
}

#[test]
fn the_key_follows_all_that_goes_in() {
    let source = PackageFile { file: "a".into(), sha256: "1".into() };
    let wishes = fragment::merge(&[Fragment::parse("f", "CONFIG_A=y\n").unwrap()]);
    let fixups = Series::fixups(&KernelSource::Debian { series: "6.12".into() }).unwrap();
    let first = key(&source, &wishes, &[], "gcc 12");
    assert_eq!(first.len(), 16);
    let renamed = PackageFile { file: "b".into(), ..source.clone() };
    assert_eq!(key(&renamed, &wishes, &[], "gcc 12"), first);
    let others = [
        key(&PackageFile { sha256: "2".into(), ..source.clone() }, &wishes, &[], "gcc 12"),
        key(&source, &Wishes::new(), &[], "gcc 12"),
        key(&source, &wishes, &fixups, "gcc 12"),
        key(&source, &wishes, &[], "gcc 13"),
    ];
    assert!(others.iter().all(|other| *other != first), "{others:?}");
}
