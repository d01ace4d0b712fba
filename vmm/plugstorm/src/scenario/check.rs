//! From the scenario as written to the scenario as run: names resolved, bounds checked, everything wrong collected.

use std::collections::HashSet;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use plugstorm_wire::{Edge, Operation, Sharing};
use toml::Spanned;

use super::error::suggestion;
use super::lender;
use super::points;
use super::quantity::{Pause, Time};
use super::table::{DeviceTable, GuestTable, HammerTable, ScenarioTable, TimeOutTable};
use super::{
    Design, Device, Driver, GoneReads, Guest, Hammer, LEAST_MEMORY_BYTES, LONGEST_APPEND_BYTES, MOST_CPUS, MOST_CYCLES,
    MOST_DEVICES, MOST_LINES, MOST_MEMORY_BYTES, MOST_THREADS, Mistake, Scenario, Signal, TimeOuts, Until, Work,
};
use super::{own, steps};

/// Signals faster than this are more than the host's timer thread gives.
const SHORTEST_SIGNAL: Duration = Duration::from_micros(100);
/// No wait of a storm is longer than this, before the slowdown.
pub(super) const LONGEST_TIME_OUT: Duration = Duration::from_secs(3600);

pub(super) fn check(table: ScenarioTable, stem: &str) -> Result<Scenario, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let name = scenario_name(table.name.as_ref(), stem, &mut mistakes);
    let cycles = within(table.cycles.as_ref(), 100, 1..=u64::from(MOST_CYCLES), "cycles", &mut mistakes);
    let kernel_span = table.guest.kernel.as_ref().map(Spanned::span);
    let guest = guest(&table.guest, &mut mistakes);
    let time_outs = time_outs(&table.time_outs, &mut mistakes);
    let devices = devices(&table.device, &mut mistakes);
    let points = points::check(&table.point, &devices, &mut mistakes);
    let hammers = hammers(&table.hammer, &table.device, &devices, &mut mistakes);
    let (steps, programs, warnings) = steps::check(&table, &devices, &hammers, &mut mistakes);
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    Ok(Scenario {
        name,
        about: table.about.unwrap_or_default(),
        seed: table.seed.unwrap_or(1),
        cycles: u32::try_from(cycles).unwrap_or(MOST_CYCLES),
        until: table.until.unwrap_or(Until::FirstFinding),
        renew: table.renew.unwrap_or_default(),
        guest,
        time_outs,
        devices,
        points,
        hammers,
        programs,
        steps,
        warnings,
        kernel_span,
    })
}

fn scenario_name(name: Option<&Spanned<String>>, stem: &str, mistakes: &mut Vec<Mistake>) -> String {
    let Some(name) = name else { return stem.chars().map(|c| if is_name_char(c) { c } else { '-' }).collect() };
    check_name(name, mistakes);
    name.get_ref().clone()
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

/// Names end up in folders, in messages and on terminals.
fn check_name(name: &Spanned<String>, mistakes: &mut Vec<Mistake>) {
    let text = name.get_ref();
    if text.is_empty() || text.len() > 64 || text.starts_with('.') || !text.chars().all(is_name_char) {
        mistakes.push(Mistake::new(
            name.span(),
            format!("`{}` cannot be a name", text.escape_debug()),
            "use 1 to 64 letters, digits, `-`, `_` and `.`, not beginning with `.`",
        ));
    }
}

/// A number within bounds, or its default; a mistake is noted and the default given.
pub(super) fn within(
    value: Option<&Spanned<u64>>,
    default: u64,
    bounds: RangeInclusive<u64>,
    key: &str,
    mistakes: &mut Vec<Mistake>,
) -> u64 {
    let Some(value) = value else { return default };
    if bounds.contains(value.get_ref()) {
        return *value.get_ref();
    }
    mistakes.push(Mistake::new(
        value.span(),
        format!("`{key}` is {}, which is out of bounds", value.get_ref()),
        format!("give {} to {}", bounds.start(), bounds.end()),
    ));
    default
}

fn guest(table: &GuestTable, mistakes: &mut Vec<Mistake>) -> Guest {
    if let Some(kernel) = table.kernel.as_ref().filter(|kernel| kernel.get_ref().trim().is_empty()) {
        mistakes.push(Mistake::new(
            kernel.span(),
            "`kernel` is empty",
            "give a name from `plugstorm kernel list`, such as \"debian-6.12\", or a file",
        ));
    }
    let cpus = within(table.cpus.as_ref(), 2, 1..=u64::from(MOST_CPUS), "cpus", mistakes);
    let memory_bytes = table.memory.as_ref().map_or(512 << 20, |memory| memory.get_ref().0);
    if let Some(memory) =
        table.memory.as_ref().filter(|_| !(LEAST_MEMORY_BYTES..=MOST_MEMORY_BYTES).contains(&memory_bytes))
    {
        mistakes.push(Mistake::new(
            memory.span(),
            "this is no amount of memory that a guest can have",
            format!("give {} MiB to {} GiB", LEAST_MEMORY_BYTES >> 20, MOST_MEMORY_BYTES >> 30),
        ));
    }
    if let Some(append) = &table.append {
        let text = append.get_ref();
        if text.len() > LONGEST_APPEND_BYTES || !text.chars().all(|c| c.is_ascii_graphic() || c == ' ') {
            mistakes.push(Mistake::new(
                append.span(),
                "this cannot be added to the kernel's command line",
                format!("use at most {LONGEST_APPEND_BYTES} printable ASCII characters on one line"),
            ));
        }
    }
    Guest {
        kernel: table.kernel.as_ref().map(|kernel| kernel.get_ref().clone()),
        cpu: table.cpu.unwrap_or_default(),
        cpus: u8::try_from(cpus).unwrap_or(MOST_CPUS),
        memory_bytes,
        append: table.append.as_ref().map(|append| append.get_ref().clone()).unwrap_or_default(),
        gone_reads: table.gone_reads.unwrap_or(GoneReads::Zeroes),
        modules: own::modules(table, mistakes),
        files: own::files(table, mistakes),
    }
}

fn time_outs(table: &TimeOutTable, mistakes: &mut Vec<Mistake>) -> TimeOuts {
    let default = TimeOuts::default();
    let mut read = |value: &Option<Spanned<Time>>, default: Duration, key: &str| {
        let Some(value) = value else { return default };
        let time = value.get_ref().0;
        if time < Duration::from_millis(1) || time > LONGEST_TIME_OUT {
            mistakes.push(Mistake::new(
                value.span(),
                format!("the time-out `{key}` is out of bounds"),
                "give 1ms to 60min; it is multiplied by the measured slowdown",
            ));
        }
        time
    };
    TimeOuts {
        boot: read(&table.boot, default.boot, "boot"),
        add: read(&table.add, default.add, "add"),
        start: read(&table.start, default.start, "start"),
        removal: read(&table.removal, default.removal, "removal"),
        stop: read(&table.stop, default.stop, "stop"),
    }
}

fn devices(tables: &[DeviceTable], mistakes: &mut Vec<Mistake>) -> Vec<Device> {
    unique(tables.iter().map(|table| &table.name), "device", mistakes);
    if let Some(table) = tables.get(MOST_DEVICES) {
        mistakes.push(Mistake::new(
            table.name.span(),
            format!("this is device {}, and a guest has {MOST_DEVICES} slots", MOST_DEVICES + 1),
            "leave some out",
        ));
    }
    tables.iter().map(|table| device(table, mistakes)).collect()
}

fn device(table: &DeviceTable, mistakes: &mut Vec<Mistake>) -> Device {
    let lines = within(table.lines.as_ref(), 8, 1..=u64::from(MOST_LINES), "lines", mistakes);
    let signal = table.signal.as_ref().map(|signal| {
        if *signal.line.get_ref() >= lines {
            mistakes.push(no_such_line(&signal.line, &table.name, lines));
        }
        let period = signal.period.get_ref().0;
        if period < SHORTEST_SIGNAL || period > LONGEST_TIME_OUT {
            mistakes.push(Mistake::new(
                signal.period.span(),
                "the signal's `period` is out of bounds",
                "give 100us to 60min",
            ));
        }
        Signal { line: u16::try_from(*signal.line.get_ref()).unwrap_or(0), period }
    });
    Device {
        name: table.name.get_ref().clone(),
        driver: driver(table, mistakes),
        lines: u16::try_from(lines).unwrap_or(MOST_LINES),
        signal,
        node: table.node.as_ref().map(|node| node.get_ref().clone()),
    }
}

pub(super) fn no_such_line(line: &Spanned<u64>, device: &Spanned<String>, lines: u64) -> Mistake {
    Mistake::new(
        line.span(),
        format!("device `{}` has no line {}", device.get_ref(), line.get_ref()),
        format!("its lines are 0 to {}; give it more with `lines`", lines.saturating_sub(1)),
    )
}

fn driver(table: &DeviceTable, mistakes: &mut Vec<Mistake>) -> Driver {
    let names = Design::ALL.map(Design::name);
    if table.driver.get_ref() == "other" {
        return own::other_driver(table, mistakes);
    }
    own::only_of_others(table, mistakes);
    match (table.driver.get_ref().as_str(), &table.design) {
        ("gpio-virtio", None) => return Driver::GpioVirtio,
        ("gpio-virtio", Some(design)) => mistakes.push(Mistake::new(
            design.span(),
            "a device with driver = \"gpio-virtio\" has no `design`: the kernel's own driver is what it is",
            "leave `design` out, or write driver = \"plugstorm\"",
        )),
        ("plugstorm", Some(design)) => {
            if let Some(known) = Design::ALL.into_iter().find(|known| known.name() == design.get_ref()) {
                return Driver::Plugstorm(known);
            }
            mistakes.push(Mistake::new(
                design.span(),
                format!("`{}` is no design of our module", design.get_ref()),
                suggestion(design.get_ref(), &names),
            ));
        }
        ("plugstorm", None) => mistakes.push(Mistake::new(
            table.driver.span(),
            "a device with driver = \"plugstorm\" needs a `design`",
            suggestion("", &names),
        )),
        (other, _) => mistakes.push(Mistake::new(
            table.driver.span(),
            format!("`{other}` is no driver that plugstorm has a device for"),
            suggestion(other, &["gpio-virtio", "plugstorm", "other"]),
        )),
    }
    Driver::GpioVirtio
}

/// Notes each name that comes a second time, or cannot be one.
fn unique<'a>(names: impl Iterator<Item = &'a Spanned<String>>, what: &str, mistakes: &mut Vec<Mistake>) {
    let mut seen = HashSet::new();
    for name in names {
        check_name(name, mistakes);
        if !seen.insert(name.get_ref()) {
            mistakes.push(Mistake::new(
                name.span(),
                format!("there is a {what} `{}` already", name.get_ref()),
                "give each a name of its own",
            ));
        }
    }
}

/// The index of a name, or a mistake with what it may have meant.
pub(super) fn find<'a>(
    name: &Spanned<String>,
    mut names: impl Iterator<Item = &'a str> + Clone,
    what: &str,
    mistakes: &mut Vec<Mistake>,
) -> Option<usize> {
    let known: Vec<&str> = names.clone().collect();
    let index = names.position(|known| known == name.get_ref());
    if index.is_none() {
        mistakes.push(Mistake::new(
            name.span(),
            format!("there is no {what} `{}`", name.get_ref().escape_debug()),
            suggestion(name.get_ref(), &known),
        ));
    }
    index
}

fn hammers(
    tables: &[HammerTable],
    device_tables: &[DeviceTable],
    devices: &[Device],
    mistakes: &mut Vec<Mistake>,
) -> Vec<Hammer> {
    unique(tables.iter().map(|table| &table.name), "hammer", mistakes);
    let names = device_tables.iter().map(|device| device.name.get_ref().as_str());
    tables
        .iter()
        .map(|table| {
            let index = table.device.as_ref().and_then(|name| find(name, names.clone(), "device", mistakes));
            let device = index.and_then(|index| Some((devices.get(index)?, device_tables.get(index)?)));
            let mut hammer = hammer(table, index, device, mistakes);
            hammer.from = lender::check(table, device_tables, devices, mistakes);
            hammer
        })
        .collect()
}

fn hammer(
    table: &HammerTable,
    index: Option<usize>,
    device: Option<(&Device, &DeviceTable)>,
    mistakes: &mut Vec<Mistake>,
) -> Hammer {
    let threads = within(Some(&table.threads), 1, 1..=u64::from(MOST_THREADS), "threads", mistakes);
    let driver = device.map(|(device, table)| (device.driver, table.node.as_ref()));
    let work = own::work(table, driver, mistakes);
    let operations = match &work {
        Work::Program { .. } => vec![Operation::Run],
        _ => operations(table, mistakes),
    };
    let wants_events = operations.iter().any(|operation| is_event(*operation));
    let edge = table.edge.as_ref().map_or(if wants_events { Edge::Both } else { Edge::None }, |edge| *edge.get_ref());
    if let (Some((device, device_table)), Work::Device) = (device, &work) {
        fits(table, device.driver, mistakes);
        check_lines(table, device_table, u64::from(device.lines), mistakes);
        check_edges(table, edge, mistakes);
        if device.driver == Driver::GpioVirtio {
            check_requests(table, threads, mistakes);
        } else if let (Some(edge), false) = (&table.edge, wants_events) {
            mistakes.push(Mistake::new(
                edge.span(),
                "`edge` has no meaning on a device of our module without reads of events",
                "leave it out, or add the operation `read-event` or `read-event-nonblocking`",
            ));
        }
    }
    Hammer {
        name: table.name.get_ref().clone(),
        device: index,
        work,
        threads: u32::try_from(threads).unwrap_or(1),
        sharing: table.descriptor.as_ref().map_or(Sharing::Shared, |sharing| *sharing.get_ref()),
        operations,
        lines: table.lines.as_ref().map_or_else(|| vec![0], |lines| lines.get_ref().iter().map(line_number).collect()),
        edge,
        from: None,
        pause: table.pause.unwrap_or(Pause::NONE),
    }
}

fn operations(table: &HammerTable, mistakes: &mut Vec<Mistake>) -> Vec<Operation> {
    match &table.operations {
        None => mistakes.push(Mistake::new(
            table.name.span(),
            format!("hammer `{}` needs the key `operations`", table.name.get_ref()),
            "name some, such as operations = [\"read\", \"poll\"]",
        )),
        Some(operations) if operations.get_ref().is_empty() => {
            mistakes.push(Mistake::new(operations.span(), "a hammer without operations does nothing", "name some"));
        }
        Some(_) => {}
    }
    table.operations().iter().map(|operation| *operation.get_ref()).collect()
}

fn line_number(line: &Spanned<u64>) -> u32 {
    u32::try_from(*line.get_ref()).unwrap_or(u32::MAX)
}

fn check_lines(table: &HammerTable, device: &DeviceTable, lines: u64, mistakes: &mut Vec<Mistake>) {
    let Some(named) = &table.lines else { return };
    if named.get_ref().is_empty() {
        mistakes.push(Mistake::new(
            named.span(),
            "a hammer works on one line at least",
            "name one, such as lines = [0]",
        ));
    }
    let mut seen = HashSet::new();
    for line in named.get_ref() {
        if *line.get_ref() >= lines {
            mistakes.push(no_such_line(line, &device.name, lines));
        } else if !seen.insert(*line.get_ref()) {
            mistakes.push(Mistake::new(line.span(), "this line is named twice", "name each line once"));
        }
    }
}

/// Every operation can be done to the hammer's device.
fn fits(table: &HammerTable, driver: Driver, mistakes: &mut Vec<Mistake>) {
    for operation in table.operations() {
        let (fits, device, way_out) = match driver {
            Driver::GpioVirtio => {
                (on_gpiochip(*operation.get_ref()), "a gpiochip", "use it on a device with driver = \"plugstorm\"")
            }
            Driver::Plugstorm(_) => (
                on_our_device(*operation.get_ref()),
                "a device of our module",
                "use it on a device with driver = \"gpio-virtio\"",
            ),
            // It has a node, or there was a mistake to note before.
            Driver::Other { .. } => (true, "", ""),
        };
        if !fits {
            let name = operation_name(*operation.get_ref());
            mistakes.push(Mistake::new(operation.span(), format!("`{name}` cannot be done to {device}"), way_out));
        }
    }
}

/// One line request is either for inputs with edges or for outputs (gpiolib-cdev.c, `gpio_v2_line_config_validate`).
fn check_edges(table: &HammerTable, edge: Edge, mistakes: &mut Vec<Mistake>) {
    let sets = table.operations().iter().find(|operation| *operation.get_ref() == Operation::SetValues);
    let event = table.operations().iter().find(|operation| is_event(*operation.get_ref()));
    if let (Some(sets), true) = (sets, edge != Edge::None) {
        mistakes.push(Mistake::new(
            sets.span(),
            "`set-values` makes the lines outputs, and an output has no edges",
            "use two hammers with different lines, or edge = \"none\" without event reads",
        ));
    } else if let (Some(event), true) = (event, edge == Edge::None) {
        mistakes.push(Mistake::new(
            event.span(),
            format!("`{}` reads edges, and this hammer asks for none", operation_name(*event.get_ref())),
            "write edge = \"both\", or leave `edge` out",
        ));
    }
}

/// The kernel lets a line be requested once, so requests of one hammer share out its lines: among threads with descriptors
/// of their own, and between blocking and non-blocking reads.
fn check_requests(table: &HammerTable, threads: u64, mistakes: &mut Vec<Mistake>) {
    let named = table.lines.as_ref().map_or(1, |lines| lines.get_ref().len() as u64);
    let has = |wanted| table.operations().iter().any(|operation| *operation.get_ref() == wanted);
    let requests = table.operations().iter().any(|operation| needs_line_request(*operation.get_ref()));
    let own = table.descriptor.as_ref().is_some_and(|sharing| *sharing.get_ref() == Sharing::Own);
    let sharers = if own { threads } else { 1 };
    let both = has(Operation::ReadEvent) && has(Operation::ReadEventNonblocking);
    let needed = if both { sharers * 2 } else { sharers };
    if requests && named > 0 && named < needed {
        let place = table.lines.as_ref().map_or_else(|| table.name.span(), Spanned::span);
        let why = if both {
            "blocking and non-blocking reads need requests of their own"
        } else {
            "each thread needs a request of its own"
        };
        mistakes.push(Mistake::new(
            place,
            format!("{named} lines are too few here: {why}, and the kernel gives a line to one request"),
            format!("name {needed} lines or more"),
        ));
    }
}

fn is_event(operation: Operation) -> bool {
    matches!(operation, Operation::ReadEvent | Operation::ReadEventNonblocking)
}

/// A line request must be open for it; the kernel lets one request at a time have a line.
pub(super) fn needs_line_request(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::GetValues
            | Operation::SetValues
            | Operation::ReadEvent
            | Operation::ReadEventNonblocking
            | Operation::Poll
            | Operation::PollWait
    )
}

fn on_gpiochip(operation: Operation) -> bool {
    needs_line_request(operation)
        || matches!(
            operation,
            Operation::LineInfo
                | Operation::ChipInfo
                | Operation::LineInfoWatch
                | Operation::ReadLineInfo
                | Operation::ReadLineInfoNonblocking
        )
}

fn on_our_device(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::Read
            | Operation::Write
            | Operation::ReadEvent
            | Operation::ReadEventNonblocking
            | Operation::Poll
            | Operation::PollWait
            | Operation::IoctlTouch
            | Operation::IoctlGet
            | Operation::IoctlHold
            | Operation::MmapRead
            | Operation::Work
            | Operation::Timer
            | Operation::BorrowGet
    )
}

/// An operation's name in scenarios.
#[must_use]
pub fn operation_name(operation: Operation) -> String {
    serde_json::to_value(operation)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_else(|| format!("{operation:?}"))
}

/// Where something is in the file.
pub(super) type Place = Range<usize>;
