//! `plugstorm snapshot save`: a guest that is booted to be saved.

mod serial;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::run::{Boot, interrupt, only_job, tell_why};
use super::snapshot::mib;
use super::storm::guests;
use super::{Failure, absolute, show};
use crate::host::nested::{Batch, Job, forward};
use crate::host::room::{Size, nested_mib};
use crate::host::{self, Chosen, HostChoice, HostProbe};
use crate::kernels::{self, GuestKernel, HOST_KERNEL};
use crate::own::Parcel;
use crate::plan::Plan;
use crate::progress::Board;
use crate::results::Nowhere;
use crate::scenario::{Cpu, GoneReads, Guest, Renew, Scenario, TimeOuts, Until, parse_size};
use crate::snapshots::{Automatic, Store};
use crate::storm::machine::{BOOTED, GuestParts, MachineGuest, NOT_KEPT, command_line, loadable};
use crate::storm::{self, Ending, Outcome, Setting};
use crate::verdict::{EXIT_CLEAN, EXIT_INTERRUPTED};

#[derive(Debug, Args)]
pub(super) struct SaveArgs {
    /// What to call it: 1 to 64 of A-Z a-z 0-9 . _ -
    #[arg(value_name = "NAME")]
    name: String,
    /// A name in the cache, or a file.
    #[arg(long, value_name = "NAME|FILE", default_value = HOST_KERNEL)]
    kernel: String,
    /// vCPUs, 1 to 16.
    #[arg(long, value_name = "N", default_value_t = 2)]
    cpus: u8,
    /// Which processor the guest sees.
    #[arg(long, value_enum, default_value_t)]
    cpu: Cpu,
    /// Memory, such as 512MiB or 2GiB.
    #[arg(long, value_name = "SIZE", default_value = "512MiB", value_parser = parse_size)]
    memory: u64,
    /// Added to the kernel's command line.
    #[arg(long, value_name = "ARGS", default_value = "", allow_hyphen_values = true)]
    append: String,
    /// An initramfs, instead of our agent's. The guest's console is its serial port then, as in `plugstorm run`.
    #[arg(long, value_name = "FILE", requires = "when")]
    initrd: Option<PathBuf>,
    /// Save it as soon as its console has this text.
    #[arg(long, value_name = "TEXT", requires = "initrd", value_parser = NonEmptyStringValueParser::new())]
    when: Option<String>,
    /// How long that may take. Default: 120 s times what this host is slower than hardware KVM.
    #[arg(long, value_name = "SECONDS", requires = "initrd", value_parser = clap::value_parser!(u32).range(1..))]
    within: Option<u32>,
    /// Where to run it.
    #[arg(long, value_enum, default_value_t)]
    host: HostChoice,
}

pub(super) fn main(args: &SaveArgs) -> Result<u8, Failure> {
    let store = Store::here();
    // All that the user can mend comes first.
    store.is_free(&args.name)?;
    let kernel = kernels::resolve(&args.kernel, &mut show::progress).map_err(|error| Failure::user(&error))?;
    let made = match (&args.initrd, &args.when) {
        (Some(initrd), Some(text)) => {
            let boot = Boot::new(&kernel.image, Some(initrd), &args.append, (args.cpus, args.cpu), args.memory)?;
            Made::Serial(boot, text)
        }
        _ => {
            for note in &kernel.notes {
                show::err(&format!("note: {note}\n"));
            }
            let initrd = guests::initrd(&Parcel { modules: kernel.modules.clone(), extra: Vec::new() })?;
            loadable(&kernel.image, Some(&initrd), &command_line(&args.append), args.cpus, args.memory)?;
            Made::Agent(initrd)
        }
    };
    let code = match host::choose(args.host).map_err(|error| Failure::machine(&error))? {
        Chosen::Kvm(probe) => match made {
            Made::Serial(boot, text) => serial::save(args, &store, &kernel, boot, text, &probe)?,
            Made::Agent(initrd) => agent(args, &store, &kernel, initrd, &probe)?,
        },
        Chosen::Nested { why } => {
            tell_why(why);
            nested(args, &kernel)?
        }
    };
    // In a nested machine it is not yet where the user has it.
    if code == EXIT_CLEAN && !host::nested::is_inside() {
        show::out(&line(args, &store)?);
    }
    Ok(code)
}

/// What the guest is made of beside its kernel.
enum Made<'a> {
    /// What the user has, and the text to wait for.
    Serial(Boot, &'a str),
    /// Our agent's initramfs.
    Agent(Arc<Vec<u8>>),
}

/// What was saved, and how to go on.
fn line(args: &SaveArgs, store: &Store) -> Result<String, Failure> {
    let name = &args.name;
    let listed = store.listed(name).and_then(|listed| listed.summary.map(|summary| (listed.bytes_on_disk, summary)));
    let Some((bytes, guest)) = listed else {
        return Err(Failure::machine(&format!("snapshot {name} was removed by another process just now")));
    };
    let state = args.when.as_ref().map_or_else(|| "its agent ready".to_owned(), |text| format!("at {text:?}"));
    Ok(format!(
        "{}saved {name}: {}, {} CPUs, {} MiB, {state}; {} MiB on disk, after a boot of {:.1} s; `plugstorm run --from {name}` \
         goes on from there\n",
        if args.initrd.is_some() { "\n" } else { "" },
        guest.kernel,
        guest.cpus,
        guest.memory_bytes >> 20,
        mib(bytes),
        std::time::Duration::from_nanos(guest.boot_ns).as_secs_f64()
    ))
}

/// A guest as storms have it.
fn agent(
    args: &SaveArgs,
    store: &Store,
    kernel: &GuestKernel,
    initrd: Arc<Vec<u8>>,
    probe: &HostProbe,
) -> Result<u8, Failure> {
    let scenario = scenario(args);
    let (made_of, tsc_khz) = guests::made_of(kernel, &args.kernel, &initrd, &scenario)?;
    let keeper = Automatic::named(store.clone(), &args.name, made_of?, tsc_khz);
    let parts = GuestParts { kernel: kernel.image.clone(), initrd };
    let mut guest = MachineGuest::new(&scenario, parts, Some(Box::new(keeper)));
    let interrupt = interrupt(false)?;
    let outcome = storm::prepare(Setting {
        scenario: &scenario,
        plan: &Plan::new(&scenario, scenario.seed),
        guest: &mut guest,
        journal: &mut Nowhere,
        progress: &mut Board::default().run(scenario.seed),
        interrupt: &interrupt,
        host_slowdown: probe.slowdown,
        emulated: host::nested::is_inside(),
        kernel: &args.kernel,
    });
    judged(&args.name, &outcome)
}

/// A scenario that does nothing to its guest.
fn scenario(args: &SaveArgs) -> Scenario {
    Scenario {
        name: format!("snapshot {}", args.name),
        about: String::new(),
        seed: 1,
        cycles: 1,
        until: Until::FirstFinding,
        renew: Renew::AfterFindings,
        guest: Guest {
            kernel: None,
            cpu: args.cpu,
            cpus: args.cpus,
            memory_bytes: args.memory,
            append: args.append.clone(),
            gone_reads: GoneReads::AllOnes,
            modules: Vec::new(),
            files: Vec::new(),
        },
        time_outs: TimeOuts::default(),
        devices: Vec::new(),
        points: Vec::new(),
        hammers: Vec::new(),
        programs: Vec::new(),
        steps: Vec::new(),
        warnings: Vec::new(),
        kernel_span: None,
    }
}

/// It is saved if a guest has begun from it.
fn judged(name: &str, outcome: &Outcome) -> Result<u8, Failure> {
    let record = &outcome.record;
    let not_saved = |reason: &str| format!("snapshot {name} was not saved: {reason}");
    let found = record.findings.first().map(|finding| finding.title.as_str());
    let booted = record
        .warnings
        .iter()
        .find_map(|warning| warning.strip_prefix(BOOTED).or_else(|| warning.strip_prefix(NOT_KEPT)));
    let why = match (&outcome.ending, found, booted) {
        (Ending::Interrupted, ..) => {
            return Err(Failure::Sentence(not_saved("a signal ended it"), EXIT_INTERRUPTED));
        }
        (Ending::User(reason), ..) => return Err(Failure::user(&not_saved(reason))),
        (Ending::Done, Some(title), _) => format!("its guest broke while it booted: {title}"),
        (Ending::Done, None, Some(reason)) => reason.to_owned(),
        (Ending::Done, None, None) => {
            for warning in &record.warnings {
                show::err(&format!("warning: {warning}\n"));
            }
            return Ok(EXIT_CLEAN);
        }
        (Ending::Failed(reason) | Ending::Host(reason), ..) => reason.clone(),
        (Ending::Output(error), ..) => error.to_string(),
    };
    Err(Failure::machine(&not_saved(&why)))
}

/// The same, in a nested machine, and from there into the cache.
fn nested(args: &SaveArgs, kernel: &GuestKernel) -> Result<u8, Failure> {
    let size = Size::of(args.cpus, args.memory);
    // What is saved lies in RAM there, beside the guest.
    let memory_mib = nested_mib(&[size], 1).saturating_add(size.memory_mib);
    let mut batch = Batch::new().snapshots(true).memory_mib(memory_mib);
    let mut argv: Vec<OsString> = ["snapshot", "save", &args.name, "--host", "kvm"].map(OsString::from).to_vec();
    // A kernel in the cache keeps its name; the cache is shared.
    let mut is_named = OsString::from(&args.kernel);
    if let Some(file) = kernel.file() {
        let image = absolute(file)?;
        is_named = image.clone().into_os_string();
        batch = batch.input(image);
    }
    argv.extend(["--kernel".into(), is_named]);
    let option = |name: &str, value: &dyn std::fmt::Display| OsString::from(format!("--{name}={value}"));
    argv.extend([
        option("cpus", &args.cpus),
        option("cpu", &args.cpu),
        option("memory", &format!("{}K", args.memory >> 10)),
        option("append", &args.append),
    ]);
    if let Some(initrd) = &args.initrd {
        let initrd = absolute(initrd)?;
        argv.extend(["--initrd".into(), initrd.clone().into_os_string()]);
        batch = batch.input(initrd);
    }
    argv.extend(args.when.iter().map(|text| option("when", text)));
    argv.extend(args.within.iter().map(|seconds| option("within", seconds)));
    let directory = absolute(Path::new("."))?;
    let report = batch.job(Job { argv, directory, environment: Vec::new() }).run(&mut forward)?;
    let (notes, arrived) = (report.notes.join("; "), report.snapshots.contains(&args.name));
    match only_job(report)? {
        EXIT_CLEAN if !arrived => {
            Err(Failure::machine(&format!("snapshot {} did not come out of the nested machine: {notes}", args.name)))
        }
        code => Ok(code),
    }
}
