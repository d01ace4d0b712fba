//! Kernels and modules of a few functions, compiled when the tests run.

mod files;
mod lines;
mod reports;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::*;

fn facts(log: &str) -> LogFacts {
    LogFacts::of(&mut log.as_bytes()).unwrap()
}

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
