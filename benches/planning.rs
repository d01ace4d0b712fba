//! What a storm costs its host beside the machine: reading a scenario, planning it, the messages to the agent, and the engine itself
//! over a guest that takes no time.

#[allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "the guest of the engine's unit tests, as it is"
)]
#[path = "../vmm/plugstorm/src/storm/fake.rs"]
mod fake;

use std::error::Error;
use std::sync::atomic::AtomicBool;

use criterion::{Criterion, Throughput};
use plugstorm::plan::Plan;
use plugstorm::progress::Quiet;
use plugstorm::results;
use plugstorm::scenario::{Scenario, parse};
use plugstorm::storm::{self, CALIBRATION_REFERENCE_NS, Ending, Setting, guest};
use plugstorm_wire::{FromGuest, Line, LineReader, TaskStack, ToGuest, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use fake::{FakeGuest, Fault, Memory};

const SCENARIO: &str = include_str!("../fixtures/scenarios/steady.toml");
/// Cycles of a long run.
const CYCLES: u32 = 1000;
/// Cycles of a storm over the scripted guest.
const STORM_CYCLES: u32 = 10;
const SEED: u64 = 1;

fn main() -> Result<(), Box<dyn Error>> {
    let mut criterion = Criterion::default().without_plots().configure_from_args();
    let scenario = read()?;
    scenarios(&mut criterion, &scenario);
    let sent = storms(&mut criterion, &scenario)?;
    messages(&mut criterion, &sent)?;
    criterion.final_summary();
    Ok(())
}

fn read() -> Result<Scenario, Box<dyn Error>> {
    Ok(parse(SCENARIO, "steady.toml", "steady")?)
}

fn scenarios(criterion: &mut Criterion, scenario: &Scenario) {
    let mut group = criterion.benchmark_group("scenario");
    group.throughput(Throughput::Bytes(SCENARIO.len() as u64));
    group.bench_function("read and check", |bencher| bencher.iter(|| read().ok()));
    group.finish();

    let plan = Plan::new(scenario, SEED);
    let mut group = criterion.benchmark_group("plan");
    group.throughput(Throughput::Elements(CYCLES.into()));
    group.bench_function(format!("{CYCLES} cycles"), |bencher| {
        bencher.iter(|| (0..CYCLES).map(|cycle| plan.cycle(cycle).len()).sum::<usize>());
    });
    group.finish();
}

/// A storm over the scripted guest, whose clock jumps: nobody waits. What it was told, or why that was no storm.
fn storm(scenario: &Scenario, plan: &Plan) -> Result<Vec<ToGuest>, String> {
    let (mut guest, mut journal) = (FakeGuest::new(Fault::None), Memory::default());
    let outcome = storm::run(Setting {
        scenario,
        plan,
        guest: &mut guest,
        journal: &mut journal,
        progress: &mut Quiet,
        interrupt: &AtomicBool::new(false),
        host_slowdown: 1.0,
        emulated: false,
        kernel: "fake",
    });
    match outcome.ending {
        Ending::Done if guest.removals == scenario.cycles => Ok(guest.sent),
        ending => Err(format!("the scripted guest's storm ended with {ending:?} after {} removals", guest.removals)),
    }
}

fn storms(criterion: &mut Criterion, scenario: &Scenario) -> Result<Vec<ToGuest>, Box<dyn Error>> {
    let mut scenario = scenario.clone();
    scenario.override_cycles(STORM_CYCLES)?;
    let plan = Plan::new(&scenario, SEED);
    let sent = storm(&scenario, &plan)?;
    let mut group = criterion.benchmark_group("storm");
    group.throughput(Throughput::Elements(STORM_CYCLES.into()));
    group.bench_function(format!("{STORM_CYCLES} cycles over a scripted guest"), |bencher| {
        bencher.iter(|| storm(&scenario, &plan).is_ok());
    });
    group.finish();
    Ok(sent)
}

/// The longest that go either way in an ordinary run.
fn messages(criterion: &mut Criterion, sent: &[ToGuest]) -> Result<(), Box<dyn Error>> {
    let longest = sent.iter().max_by_key(|message| encode(message).map_or(0, |bytes| bytes.len()));
    let begin = longest.ok_or("the scripted guest was told nothing")?;
    message(criterion, "what a guest begins with", begin)?;
    message(criterion, "trace lines", &trace())?;
    message(criterion, "stacks of tasks", &tasks())?;
    message(criterion, "samples of a measure", &samples())
}

fn message<T>(criterion: &mut Criterion, name: &str, message: &T) -> Result<(), Box<dyn Error>>
where
    T: Serialize + DeserializeOwned + PartialEq,
{
    let bytes = encode(message)?;
    let read = || {
        let mut read = None;
        LineReader::new().push::<T>(&bytes, |line| {
            if let Line::Message(message) = line {
                read = Some(message);
            }
        });
        read
    };
    if read().as_ref() != Some(message) {
        return Err(format!("{name} do not survive the way").into());
    }
    let mut group = criterion.benchmark_group("wire");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function(format!("encode/{name}"), |bencher| bencher.iter(|| encode(message).ok()));
    group.bench_function(format!("decode/{name}"), |bencher| bencher.iter(read));
    group.finish();
    Ok(())
}

/// As long as the agent makes them (guest/agent/src/outbox.rs, `TRACE_MESSAGE_BYTES`).
fn trace() -> FromGuest {
    let line = |number: u64| {
        let tsc = 123_456_789_012 + number * 12_345;
        format!(
            "   irq/27-pciehp-85      [001] .....  {tsc}: srcu_end: (gpiochip_remove+0x66/0x160 <- synchronize_srcu)"
        )
    };
    let bytes = line(0).len();
    FromGuest::Trace { lines: (0..).map(line).take(32 * 1024 / bytes).collect(), lost: 0 }
}

/// As many as a benchmark's module gives of one measure (guest/module/bench.h, `PLUGSTORM_BENCH_SAMPLES`).
fn samples() -> FromGuest {
    let results = (0..4000).map(|round| format!("{round} 0 {} 1\n", 21_000 + round * 7 % 5000)).collect();
    FromGuest::Measured { id: 7, began_tsc: 81_234_567_890, ended_tsc: 81_434_567_890, results, error: None }
}

/// Of a guest whose removal hangs: 60 tasks.
fn tasks() -> FromGuest {
    const STACK: [&str; 10] = [
        "__synchronize_srcu+0xa5/0xc0",
        "gpiochip_remove+0x66/0x160",
        "virtio_gpio_remove+0x1f/0x50",
        "virtio_dev_remove+0x3f/0x90",
        "device_release_driver_internal+0x19f/0x200",
        "pci_stop_bus_device+0x6c/0x90",
        "pciehp_unconfigure_device+0x9c/0x170",
        "pciehp_disable_slot+0x66/0x110",
        "pciehp_ist+0x9c/0x110",
        "irq_thread+0xe5/0x1b0",
    ];
    let task = |tid| TaskStack {
        pid: tid,
        tid,
        comm: "irq/25-pciehp".into(),
        state: 'D',
        switches: 5,
        stack: STACK.map(str::to_owned).to_vec(),
        hammer: None,
        operation: None,
    };
    let tasks = (20..80).map(task).collect();
    FromGuest::Tasks { id: 7, tsc: 81_234_567_890, tasks, left_out: 0, states: Vec::new(), points: Vec::new() }
}
