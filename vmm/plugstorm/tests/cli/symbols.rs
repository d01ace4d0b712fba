//! `plugstorm splat` with debug information.

use std::fs;
use std::process::Command;

use super::Bench;

const KERNEL: &str = "\
const char linux_banner[] = \"Linux version 6.12.0-test (me@here) (gcc) #1 SMP Mon Nov 23\\n\";
volatile int counter;
static inline __attribute__((always_inline)) int touch(volatile int *at)
{
\treturn *at;
}
__attribute__((noinline)) void gpiochip_remove(void)
{
\ttouch(&counter);
}
void _start(void) { gpiochip_remove(); counter = 1; }
";

/// A vmlinux with debug information, and a log that it could have printed.
fn bench() -> Bench {
    let bench = Bench::new();
    fs::create_dir_all(bench.path("drivers/gpio")).unwrap();
    bench.file("drivers/gpio/gpiolib.c", KERNEL.as_bytes());
    for (out, debug) in [("vmlinux", "-g"), ("plain", "-g0")] {
        let mut gcc = Command::new("gcc");
        gcc.args([
            debug,
            "-O2",
            "-static",
            "-no-pie",
            "-nostdlib",
            "-ffreestanding",
            "-falign-functions=16",
            "-o",
            out,
        ]);
        gcc.args(["-fno-asynchronous-unwind-tables", "-fcf-protection=none", "drivers/gpio/gpiolib.c"]);
        assert!(gcc.current_dir(bench.folder.path()).status().unwrap().success());
    }
    let log = "[    9.100000][   T1] BUG: KASAN: slab-use-after-free in gpiochip_remove+0x1/0x10\n\
               [    9.100000][   T1] Read of size 4 at addr ffff888003a7de48 by task a/1\n\
               [    9.100000][   T1] CPU: 0 UID: 0 PID: 1 Comm: a Not tainted 6.12.0-test #1\n\
               [    9.100000][   T1] Call Trace:\n\
               [    9.100000][   T1]  <TASK>\n\
               [    9.100000][   T1]  gpiochip_remove+0x1/0x10\n\
               [    9.100000][   T1]  virtio_gpio_remove+0x1d/0x50 [gpio_virtio]\n\
               [    9.100000][   T1]  </TASK>\n";
    bench.file("loud.log", log.as_bytes());
    bench.file("other.log", log.replace("6.12.0-test", "6.1.0").as_bytes());
    bench
}

#[test]
fn reports_with_files_and_lines() {
    let bench = bench();
    let run = |args: &[&str]| {
        let output = bench.run(&[&["splat"], args].concat());
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr))
    };
    let (said, complaints) = run(&["loud.log", "--vmlinux", "vmlinux"]);
    assert!(said.contains("  touch (drivers/gpio/gpiolib.c:5) [inlined]\n"), "{said}");
    assert!(said.contains("  gpiochip_remove+0x1/0x10 (drivers/gpio/gpiolib.c:9)\n"), "{said}");
    assert!(said.contains("  virtio_gpio_remove+0x1d/0x50 [gpio_virtio]\n"), "{said}");
    assert_eq!(
        complaints,
        "note: no file with debug information for gpio_virtio, which the log names: --module takes them\n"
    );
    let (said, _) = run(&["loud.log", "--vmlinux", "vmlinux", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    let frame = &report["frames"][0];
    assert_eq!(
        (&frame["function"], &frame["offset"], &frame["size"]),
        (&"gpiochip_remove".into(), &1.into(), &16.into())
    );
    assert_eq!((&frame["source"][0]["function"], &frame["source"][0]["inlined"]), (&"touch".into(), &true.into()));
    assert_eq!((&frame["source"][1]["line"], &frame["source"][1]["inlined"]), (&9.into(), &false.into()));
    assert_eq!(report["frames"][1]["unknown"], "no file with debug information for it");
    // Wrong lines are worse than none.
    let (said, complaints) = run(&["other.log", "--vmlinux", "vmlinux"]);
    assert!(said.contains("  gpiochip_remove+0x1/0x10\n"), "{said}");
    assert!(complaints.contains("vmlinux is of another build than the log"), "{complaints}");
    assert_eq!(complaints.matches("another build").count(), 1, "{complaints}");
    let (_, complaints) = run(&["other.log", "other.log", "--vmlinux", "vmlinux"]);
    assert_eq!(complaints.matches("another build").count(), 1, "{complaints}");
    // Without files it is as it was.
    let (said, _) = run(&["loud.log"]);
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn files_that_give_no_lines() {
    let bench = bench();
    bench.refuses(&["splat", "loud.log", "--vmlinux", "plain"], 2, "plain has no debug information");
    bench.refuses(&["splat", "loud.log", "--vmlinux", "loud.log"], 2, "is no ELF file");
    bench.refuses(&["splat", "loud.log", "--module", "vmlinux"], 2, "give it with --vmlinux");
    bench.refuses(&["splat", "loud.log", "--vmlinux", "missing"], 2, "check the path and its permissions");
    bench.refuses(&["splat", "loud.log", "--kernel", "mine"], 2, "`plugstorm kernel list` says which there are");
    bench.refuses(&["splat", "loud.log", "--kernel", "mine", "--vmlinux", "vmlinux"], 2, "cannot be used with");
}
