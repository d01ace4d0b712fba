//! Guests gone bad on purpose: what the host must survive.
#![allow(unsafe_code, reason = "nix has no sched_setscheduler()")]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::num::NonZero;

use nix::errno::Errno;
use nix::libc;
use plugstorm_wire::{FromGuest, MAX_LINE_BYTES, PointHits, VERSION, encode};

use crate::cmdline::Misbehaviour;
use crate::console;
use crate::port::Port;
use crate::sysfs;

/// Goes bad, for good.
pub(crate) fn act(what: Misbehaviour, port: Port) -> ! {
    console::say(&format!("misbehaving as told: {what:?}"));
    match what {
        Misbehaviour::Silent => {}
        Misbehaviour::Panic => sysrq("c"),
        // Not reboot(2), which waits for drivers to shut down.
        Misbehaviour::Reset => sysrq("b"),
        Misbehaviour::Spin => spin(),
        Misbehaviour::Flood => flood(),
        Misbehaviour::Lie => match port.into_blocking_file() {
            Ok(file) => lie(file),
            Err(errno) => console::say(&format!("cannot make the port's writes block: {errno}")),
        },
        Misbehaviour::Exit => std::process::exit(1),
    }
    silence()
}

/// Does nothing for ever.
pub(crate) fn silence() -> ! {
    loop {
        std::thread::park();
    }
}

/// `/proc/sysrq-trigger` obeys whatever kernel.sysrq allows the keyboard.
fn sysrq(key: &str) {
    if let Err(error) = sysfs::write("/proc/sysrq-trigger", key) {
        console::say(&error.to_string());
    }
}

/// Keeps every CPU busy at the highest real-time priority, with the kernel's throttling off: nothing that a scheduler
/// chooses runs any more. Interrupts go on: user space cannot turn them off (since 5.5 `iopl(2)` does not allow `cli`).
fn spin() -> ! {
    // Without this the kernel keeps 5 % of the time for others.
    if let Err(error) = sysfs::write("/proc/sys/kernel/sched_rt_runtime_us", "-1") {
        console::say(&error.to_string());
    }
    let cpus = std::thread::available_parallelism().map_or(1, NonZero::get);
    for _ in 1..cpus {
        // The scheduler pushes real-time threads to CPUs that run nothing as urgent.
        let _ = std::thread::Builder::new().name("spin".into()).spawn(|| spin_here());
    }
    spin_here()
}

fn spin_here() -> ! {
    let parameters = libc::sched_param { sched_priority: 99 };
    // SAFETY: the call reads the structure, which lives for longer, and concerns the calling thread only.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
    if let Err(errno) = Errno::result(result) {
        console::say(&format!("cannot become a real-time thread: {errno}"));
    }
    loop {
        std::hint::spin_loop();
    }
}

/// Writes to the console and, past its limit of rate, to the kernel's log.
fn flood() -> ! {
    let _ = sysfs::write("/proc/sys/kernel/printk_devkmsg", "on");
    let _ = std::thread::Builder::new().name("flood".into()).spawn(|| flood_into("/dev/kmsg"));
    flood_into("/dev/console")
}

fn flood_into(path: &str) -> ! {
    let line = format!("<0>plugstorm flood {}\n", "BUG: KASAN: WARNING: ".repeat(20));
    loop {
        if let Ok(mut file) = OpenOptions::new().write(true).open(path) {
            while file.write_all(line.as_bytes()).is_ok() {}
        }
        std::thread::yield_now();
    }
}

/// Writes what is no message, messages that make no sense, and lines that do not end.
fn lie(mut port: File) {
    let nonsense = [
        FromGuest::Hello {
            version: VERSION.wrapping_add(1),
            kernel_release: "\u{0}\u{1b}[2J\u{202e}".repeat(100),
            cpus: u32::MAX,
            tsc: u64::MAX,
            since_boot_ns: u64::MAX,
            calibration_ns: 0,
            tick_ns: 0,
            preemption: None,
            modules: Vec::new(),
            leaks: true,
        },
        FromGuest::Begun {
            tsc: 0,
            calibration_ns: u64::MAX,
            random: 0,
            problems: vec!["\u{1b}[2J".repeat(1000); 20],
            points_error: None,
        },
        FromGuest::Done { id: u64::MAX, began_tsc: u64::MAX, ended_tsc: 0, error: Some("x".repeat(100_000)) },
        FromGuest::HammerStarted {
            id: 0,
            tsc: 0,
            hammer: "../../nobody".into(),
            node: "/dev/\n\u{7f}".into(),
            descriptors: u32::MAX,
            threads: u32::MAX,
        },
        FromGuest::HammerReport {
            id: 0,
            tsc: u64::MAX,
            hammer: String::new(),
            ended: true,
            active_ns: 0,
            operations: Vec::new(),
            hanging: Vec::new(),
        },
        FromGuest::Trace { lines: vec![" x-1 [999] ..... 99999999999999999999999: y: (".into(); 1000], lost: u64::MAX },
        FromGuest::Tasks {
            id: 0,
            tsc: 0,
            tasks: Vec::new(),
            left_out: u32::MAX,
            states: Vec::new(),
            points: Vec::new(),
        },
        FromGuest::Leaks {
            id: u64::MAX,
            began_tsc: u64::MAX,
            ended_tsc: 0,
            reports: vec!["unreferenced object 0x\u{1b}[2J\n".repeat(100); 50],
            left_out: u64::MAX,
        },
        FromGuest::Points {
            id: 0,
            tsc: u64::MAX,
            points: vec![PointHits { name: "driver.\u{1b}[2J".into(), hits: u32::MAX }; 2000],
        },
        FromGuest::Uevent {
            tsc: 0,
            action: "remove".into(),
            devpath: "/".repeat(10_000),
            subsystem: "pci".into(),
            driver: None,
            devname: None,
        },
    ];
    let mut lines: Vec<Vec<u8>> = nonsense.iter().filter_map(|message| encode(message).ok()).collect();
    lines.push(b"{\"from_guest\":\"hello\",\"version\":-1}\n".to_vec());
    lines.push(b"{\"from_guest\":\"configured\",\"probes_failed\":{}}\n\r\n\n\0\0\0\n".to_vec());
    lines.push([b"[".repeat(100_000), b"\n".to_vec()].concat());
    lines.push((0..=u8::MAX).cycle().take(100_000).collect());
    lines.push([b"x".repeat(MAX_LINE_BYTES * 4), b"\n".to_vec()].concat());
    lines.push(b"\"".repeat(MAX_LINE_BYTES * 2));
    loop {
        for line in &lines {
            if let Err(error) = port.write_all(line) {
                console::say(&format!("the port takes no more lies: {error}"));
                return;
            }
        }
    }
}
