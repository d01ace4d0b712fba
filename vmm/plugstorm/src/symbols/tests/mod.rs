use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;

use super::*;

/// A kernel in four files, and a module, compiled when the test runs.
struct Built {
    folder: tempfile::TempDir,
}

const FILES: [(&str, &str); 5] = [
    (
        "kernel/panic.c",
        "const char linux_banner[] = \"Linux version 6.12.0-test (me@here) (gcc) #1 SMP Mon Nov 23\\n\";\n\
         __attribute__((noinline)) void panic(void) { asm volatile(\"\"); }\n\
         void start(void);\n\
         void _start(void) { start(); panic(); }\n",
    ),
    (
        "include/linux/gpio.h",
        "static inline __attribute__((always_inline)) int touch(volatile int *at)\n\
         {\n\
         \x20\tint was = *at;\n\
         \x20\t*at = was + 1;\n\
         \x20\treturn was;\n\
         }\n",
    ),
    (
        "drivers/gpio/one.c",
        "#include \"../../include/linux/gpio.h\"\n\
         void panic(void);\n\
         volatile int counter;\n\
         static __attribute__((noinline)) void same_name(void) { counter += 1; asm volatile(\".skip 64, 0x90\"); }\n\
         static __attribute__((noinline)) void same_size(void) { counter += 3; }\n\
         static inline __attribute__((always_inline)) int through(void)\n\
         {\n\
         \x20\treturn touch(&counter);\n\
         }\n\
         __attribute__((noinline)) void gpiochip_remove(void)\n\
         {\n\
         \x20\tthrough();\n\
         \x20\tsame_name();\n\
         \x20\tsame_size();\n\
         \x20\tpanic();\n\
         }\n",
    ),
    (
        "drivers/gpio/two.c",
        "extern volatile int counter;\n\
         void gpiochip_remove(void);\n\
         static __attribute__((noinline)) void same_name(void) { counter += 2; }\n\
         static __attribute__((noinline)) void same_size(void) { counter += 4; }\n\
         void start(void) { same_name(); same_size(); gpiochip_remove(); }\n",
    ),
    (
        "module/gpio-fake.c",
        "#include \"../include/linux/gpio.h\"\n\
         __attribute__((section(\".modinfo\"), used)) static const char magic[] = \"vermagic=6.12.0-test SMP\";\n\
         extern volatile int counter;\n\
         __attribute__((section(\".exit.text\"), noinline)) void fake_exit(void) { touch(&counter); }\n\
         __attribute__((noinline)) void fake_remove(void)\n\
         {\n\
         \x20\ttouch(&counter);\n\
         \x20\tfake_exit();\n\
         \x20\tcounter = 2;\n\
         }\n",
    ),
];
/// As the kernel has them: functions on 16 bytes, nothing before them.
const FLAGS: [&str; 9] = [
    "-O2",
    "-fno-pie",
    "-nostdlib",
    "-ffreestanding",
    "-falign-functions=16",
    "-fno-asynchronous-unwind-tables",
    "-fcf-protection=none",
    "-fno-optimize-sibling-calls",
    "-mcmodel=kernel",
];

impl Built {
    fn new(debug: &[&str]) -> Self {
        let built = Self { folder: tempfile::tempdir().unwrap() };
        for (name, text) in FILES {
            let path = built.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let linked = ["-static", "-no-pie", "-Wl,-Ttext=0xffffffff81000000", "-Wl,--build-id=sha1", "-Wl,-z,norelro"];
        built.gcc(debug, &linked, &["kernel/panic.c", "drivers/gpio/one.c", "drivers/gpio/two.c"], "vmlinux");
        built.gcc(debug, &["-c"], &["module/gpio-fake.c"], "gpio-fake.ko");
        built
    }

    fn gcc(&self, debug: &[&str], how: &[&str], sources: &[&str], out: &str) {
        let mut gcc = Command::new("gcc");
        gcc.current_dir(self.folder.path()).args(FLAGS).args(debug).args(how).args(sources).args(["-o", out]);
        let done = gcc.output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn symbolizer(&self) -> Symbolizer {
        Symbolizer::open(Some(&self.path("vmlinux")), &[self.path("gpio-fake.ko")]).unwrap()
    }

    /// Functions by binutils' nm: address and distance to the next one.
    fn nm(&self, file: &str) -> BTreeMap<String, Vec<(u64, u64)>> {
        let text = Command::new("nm").args(["-n", "--defined-only"]).arg(self.path(file)).output().unwrap().stdout;
        let text = String::from_utf8(text).unwrap();
        let symbols: Vec<(u64, &str, &str)> = text
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                Some((u64::from_str_radix(words.next()?, 16).ok()?, words.next()?, words.next()?))
            })
            .filter(|(_, kind, _)| kind.eq_ignore_ascii_case("t"))
            .collect();
        let mut functions = BTreeMap::<String, Vec<(u64, u64)>>::new();
        for (index, (address, _, name)) in symbols.iter().enumerate() {
            let next = symbols.get(index + 1).map_or(address + 16, |(next, _, _)| *next);
            functions.entry((*name).to_owned()).or_default().push((*address, next - address));
        }
        functions
    }

    /// `function` at `offset`, with its size.
    fn place(&self, function: &str, which: usize, offset: u64) -> Place {
        let (_, size) = self.nm("vmlinux")[function][which];
        Place { function: function.into(), offset, size: Some(size), module: None, build_id: None }
    }
}

fn shown(located: &Located) -> Vec<String> {
    located.frames().iter().map(|frame| format!("{frame}{}", if frame.inlined { " inlined" } else { "" })).collect()
}

/// What is shown for each offset of a function, each once, in the order of the code.
fn all_of(symbolizer: &Symbolizer, function: &str, module: Option<&str>, bytes: u64) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for offset in 0..bytes {
        let place =
            Place { function: function.into(), offset, size: None, module: module.map(Into::into), build_id: None };
        let lines = shown(&symbolizer.frames(&place, false));
        if !all.contains(&lines) {
            all.push(lines);
        }
    }
    all
}

#[test]
fn a_place_of_the_kernel_has_file_and_line_and_what_is_inlined() {
    for debug in [&["-g"][..], &["-gdwarf-4"], &["-g", "-gz=zlib"], &["-g", "-gno-column-info", "-O1"]] {
        let built = Built::new(debug);
        let symbolizer = built.symbolizer();
        let all = all_of(&symbolizer, "gpiochip_remove", None, 32);
        let inlined = [
            "touch (include/linux/gpio.h:3) inlined",
            "through (drivers/gpio/one.c:8) inlined",
            "gpiochip_remove (drivers/gpio/one.c:12)",
        ];
        assert!(all.iter().any(|lines| *lines == inlined), "{debug:?}: {all:#?}");
        assert!(all.iter().any(|lines| *lines == ["gpiochip_remove (drivers/gpio/one.c:13)"]), "{debug:?}: {all:#?}");
        assert_eq!(symbolizer.notes(), [""; 0]);
    }
}

#[test]
fn a_module_has_its_relocations_applied() {
    for debug in [&["-g"][..], &["-gdwarf-4"], &["-g", "-gz=zlib"]] {
        let built = Built::new(debug);
        let symbolizer = built.symbolizer();
        let all = all_of(&symbolizer, "fake_remove", Some("gpio_fake"), 24);
        let inlined = ["touch (include/linux/gpio.h:3) inlined", "fake_remove (module/gpio-fake.c:7)"];
        assert!(all.iter().any(|lines| *lines == inlined), "{debug:?}: {all:#?}");
        // Of another section, which begins at the same offset.
        let all = all_of(&symbolizer, "fake_exit", Some("gpio_fake"), 8);
        assert!(
            all.iter().any(|lines| lines.last().is_some_and(|line| line == "fake_exit (module/gpio-fake.c:4)")),
            "{all:?}"
        );
        assert_eq!(symbolizer.notes(), [""; 0]);
    }
}

#[test]
fn a_call_is_where_it_was_made_and_not_where_it_returns_to() {
    let built = Built::new(&["-g"]);
    let symbolizer = built.symbolizer();
    // The call of panic() is the last thing in gpiochip_remove(), and what it returns to is another line.
    let (start, size) = built.nm("vmlinux")["gpiochip_remove"][0];
    let code = Command::new("objdump").args(["-d", "--no-show-raw-insn"]).arg(built.path("vmlinux")).output().unwrap();
    let code = String::from_utf8(code.stdout).unwrap();
    let calls: Vec<u64> = code
        .lines()
        .skip_while(|line| !line.contains("<gpiochip_remove>:"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(":")?.0.trim().parse::<String>().ok())
        .map(|address| u64::from_str_radix(&address, 16).unwrap() - start)
        .collect();
    let is_call = |offset: &u64| code.contains(&format!("{:x}:\tcall ", start + offset));
    let returns: Vec<u64> = calls.windows(2).filter(|pair| is_call(&pair[0])).map(|pair| pair[1]).collect();
    let lines = |is_return| -> Vec<Option<u32>> {
        let place = |offset| Place {
            function: "gpiochip_remove".into(),
            offset,
            size: Some(size),
            module: None,
            build_id: None,
        };
        returns.iter().map(|&offset| symbolizer.frames(&place(offset), is_return).frames()[0].line).collect()
    };
    assert_eq!(lines(true), [Some(13), Some(14), Some(15)]);
    assert_ne!(lines(false), [Some(13), Some(14), Some(15)]);
}

#[test]
fn functions_of_one_name_are_told_apart_by_their_size_or_not_at_all() {
    let built = Built::new(&["-g"]);
    let symbolizer = built.symbolizer();
    let in_file = |place: &Place| match symbolizer.frames(place, false) {
        Located::Found(frames) => frames[0].line_of_file(),
        other => format!("{other:?}"),
    };
    let both = [in_file(&built.place("same_name", 0, 0)), in_file(&built.place("same_name", 1, 0))];
    assert!(both.contains(&"drivers/gpio/one.c:4".into()) && both.contains(&"drivers/gpio/two.c:3".into()), "{both:?}");
    let place = built.place("same_size", 0, 0);
    let Located::Ambiguous(all) = symbolizer.frames(&place, false) else { panic!("{}", in_file(&place)) };
    assert_eq!(all.len(), 2);
    let text = symbolizer.annotate(&format!(" {place}"));
    assert!(text.contains("(one of 2 functions of this name: drivers/gpio/"), "{text}");
    let unsized_place = Place { size: None, ..built.place("same_name", 0, 0) };
    assert!(matches!(symbolizer.frames(&unsized_place, false), Located::Ambiguous(_)));
}

#[test]
fn what_is_not_known_is_said_so() {
    let built = Built::new(&["-g"]);
    let symbolizer = built.symbolizer();
    let unknown = |text: &str| match symbolizer.frames(&Place::parse(text).unwrap(), true) {
        Located::Unknown(unknown) => Some(unknown),
        _ => None,
    };
    assert_eq!(unknown("nobody+0x1/0x2"), Some(Unknown::NoFunction));
    assert_eq!(unknown("gpiochip_remove+0x1/0x2222"), Some(Unknown::OtherSize));
    assert_eq!(unknown("gpiochip_remove+0xffffffffffffffff"), Some(Unknown::OtherSize));
    assert_eq!(unknown("f+0x1/0x2 [other]"), Some(Unknown::NoFile));
    assert_eq!(unknown("fake_remove+0x1/0xffffffffffff0000 [gpio_fake]"), None);
}

#[test]
fn addresses_are_moved_back_by_what_the_log_says() {
    let built = Built::new(&["-g"]);
    let (address, size) = built.nm("vmlinux")["gpiochip_remove"][0];
    let moved = address + 0x1e60_0000;
    let mut symbolizer = built.symbolizer();
    assert_eq!(symbolizer.at_address(moved + 1, true), None);
    for log in [
        "Kernel Offset: 0x1e600000 from 0xffffffff81000000 (relocation range: 0xffffffff80000000-0xffffffffbfffffff)"
            .into(),
        format!("[<{:x}>] gpiochip_remove+0x7/{size:#x}", moved + 7),
    ] {
        assert_eq!(symbolizer.compare(&LogFacts::read(&log)), [""; 0]);
        let (place, frames) = symbolizer.at_address(moved + 1, true).unwrap();
        assert_eq!((place.function.as_str(), place.offset), ("gpiochip_remove", 1));
        assert_eq!(frames.last().unwrap().function.as_deref(), Some("gpiochip_remove"));
        let text = symbolizer.annotate(&format!("RIP: 0010:{moved:#x}\n {moved:#x}\n 0xffffffffc0000000"));
        assert!(text.contains("(gpiochip_remove+0x0 drivers/gpio/one.c:"), "{text}");
        assert!(text.ends_with(" 0xffffffffc0000000"), "{text}");
    }
    // By less than a kernel can be moved, it was not.
    symbolizer.compare(&LogFacts::read("Kernel Offset: 0x1234 from 0xffffffff81000000"));
    assert_eq!(symbolizer.at_address(moved + 1, true), None);
}

#[test]
fn a_file_of_another_build_gives_no_lines() {
    let built = Built::new(&["-g"]);
    let mut symbolizer = built.symbolizer();
    let place = built.place("gpiochip_remove", 0, 1);
    let mut compared = |log: &str| {
        let said = symbolizer.compare(&LogFacts::read(log)).join("\n");
        (said, symbolizer.frames(&place, true))
    };
    let same = "Linux version 6.12.0-test (me@here) (gcc) #1 SMP Mon Nov 23\n\
                CPU: 0 PID: 1 Comm: a Not tainted 6.12.0-test #1\n";
    let (said, located) = compared(&format!("{same}{place}\n"));
    assert_eq!(said, "");
    assert!(matches!(located, Located::Found(_)));
    for (log, reason) in [
        ("CPU: 0 PID: 1 Comm: a Not tainted 6.12.0-other #1", "it is of 6.12.0-test, and the log is of 6.12.0-other"),
        ("Linux version 6.12.0-test (me@here) (gcc) #2 SMP Tue Nov 24", "it was built at another time"),
        ("Linux version 6.1.0 (me@here)", "the log is of 6.1.0"),
        ("CPU: 0 PID: 1 Comm: a 6.12.0-test #1 544e001392145ae8ef0830ddcc03f98dc3098b9f", "its build id is"),
        (" gpiochip_remove+0x1/0x2222", "1 of 1 places in the log are none of it, gpiochip_remove+0x1/0x2222 for one"),
    ] {
        let (said, located) = compared(log);
        assert!(said.contains(reason), "{log}: {said}");
        assert_eq!(located, Located::Unknown(Unknown::OtherBuild), "{log}");
    }
    let (said, _) = compared("fake_remove+0x1/0x2 [gpio_fake]\n");
    assert!(said.contains("gpio-fake.ko is of another build"), "{said}");
    // A file that the log has nothing of is not worth a sentence.
    let (said, _) = compared("CPU: 0 PID: 1 Comm: a Not tainted 6.1.0 #1");
    assert!(!said.contains("gpio-fake.ko") && said.contains("vmlinux"), "{said}");
    let (said, _) = compared(&format!("{same} f+0x1/0x2 [one]\n f+0x1/0x2 [two]\n"));
    assert!(said.contains("no file with debug information for one, two"), "{said}");
    // And the next log may be of the right one.
    assert_eq!(compared(same).0, "");
}

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

/// Line numbers of binutils for every address of a file, innermost first.
fn binutils(file: &Path, addresses: &[u64]) -> Vec<Vec<(String, String)>> {
    let mut command = Command::new("addr2line");
    command.args(["-a", "-i", "-f", "-e"]).arg(file).args(addresses.iter().map(|address| format!("{address:#x}")));
    let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let mut all = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(head) = lines.next() {
        assert!(head.starts_with("0x"), "{head}");
        let mut frames = Vec::new();
        while let Some(function) = lines.next_if(|line| !line.starts_with("0x")) {
            let place = lines.next().unwrap().split(" (discriminator").next().unwrap().to_owned();
            frames.push((function.to_owned(), place));
        }
        all.push(frames);
    }
    all
}

#[test]
fn binutils_says_the_same_of_every_address() {
    let built = Built::new(&["-g"]);
    let symbolizer = built.symbolizer();
    let image = symbolizer.vmlinux.as_ref().unwrap();
    let functions = built.nm("vmlinux");
    let addresses: Vec<u64> = functions
        .iter()
        .filter(|(name, _)| !name.starts_with("__") && *name != "_etext")
        .flat_map(|(_, places)| places)
        .flat_map(|(address, size)| *address..address + (*size).min(16))
        .collect();
    let mut compared = 0;
    for (address, theirs) in addresses.iter().zip(binutils(&built.path("vmlinux"), &addresses)) {
        let (_, ours) = image.at(*address, false).unwrap();
        let ours: Vec<_> =
            ours.iter().filter_map(|frame| Some((frame.function.clone()?, frame.line_of_file()))).collect();
        let root = built.folder.path().canonicalize().unwrap().display().to_string() + "/";
        let name = |(function, place): (String, String)| {
            (function, paths::join("", place.strip_prefix(&root).unwrap_or(&place)))
        };
        let theirs: Vec<_> = theirs.into_iter().map(name).filter(|(_, place)| !place.contains("??")).collect();
        if !theirs.is_empty() && !ours.is_empty() {
            compared += 1;
            assert_eq!(ours, theirs, "{address:#x}");
        }
    }
    assert!(compared > 50, "{compared}");
}

#[test]
fn a_report_is_shown_with_files_and_lines() {
    let built = Built::new(&["-g"]);
    let symbolizer = built.symbolizer();
    let (_, size) = built.nm("vmlinux")["gpiochip_remove"][0];
    let report = format!(
        "BUG: KASAN: slab-use-after-free in gpiochip_remove+0x7/{size:#x}\n\
         WARNING: CPU: 0 PID: 1 at drivers/gpio/one.c:13 gpiochip_remove+0x7/{size:#x}\n\
         RIP: 0010:gpiochip_remove+0x0/{size:#x}\n\
         Call Trace:\n\
         \x20<TASK>\n\
         \x20gpiochip_remove+0x7/{size:#x}\n\
         \x20? gpiochip_remove+0x7/{size:#x}\n\
         \x20nobody+0x7/0x999\n\
         \x20fake_remove+0x1/0xff0 [gpio_fake]\n\
         \x20</TASK>\n"
    );
    // Sizes and offsets are the compiler's.
    let annotated = symbolizer.annotate(&report).replace(&format!("/{size:#x}"), "/SIZE");
    insta::assert_snapshot!(annotated);
    let frames = symbolizer.report_frames(&report);
    assert_eq!(frames.len(), 6);
    let json = serde_json::to_string_pretty(&[&frames[2], &frames[4]]).unwrap();
    insta::assert_snapshot!(json.replace(&format!("\"size\": {size}"), "\"size\": SIZE"));
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
                symbolizer.compare(&LogFacts::read(log));
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
