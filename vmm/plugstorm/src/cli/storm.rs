//! `plugstorm storm`: scenarios to runs, runs to results.

pub(super) mod nested;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use plugstorm_machine::host_cpu;
use plugstorm_wire::encode;

use super::run::{interrupt, tell_why};
use super::{Failure, StormArgs, absolute, show};
use crate::host::room::{Jobs, Room, Size, cpus_beside};
use crate::host::{self, Chosen, HostProbe};
use crate::kernels::{self, GuestKernel, HOST_KERNEL, KernelError};
use crate::own::{self, Parcel};
use crate::plan::Plan;
use crate::progress::{Board, Progress, Quiet};
use crate::results::{Event, EventKind, HostFacts, Journal, RunFolder, Source, ended, running};
use crate::scenario::{self, Design, Mistake, Mistakes, Scenario, ScenarioError, Until};
use crate::snapshots::{Automatic, Ingredients, MadeOf, SnapshotError, Store, digest};
use crate::storm::fork::Keeper;
use crate::storm::guest::GuestError;
use crate::storm::machine::{GuestParts, MachineGuest, command_line, loadable, root_ports};
use crate::storm::{self, Ending, MOST_SLOWDOWN, Setting, configuration};
use crate::turns::take_turns;
use crate::verdict::{EXIT_INTERRUPTED, exit_code_of, judge, worst};
use crate::{initramfs, summary};

/// A run that can be begun.
pub(super) struct Ready {
    pub(super) file: PathBuf,
    /// As it is run: with [`Self::instead`].
    pub(super) scenario: Scenario,
    pub(super) instead: Instead,
    pub(super) seed: u64,
    pub(super) guest: GuestFiles,
    pub(super) out: PathBuf,
}

/// What a guest is started from.
#[derive(Clone)]
pub(super) struct GuestFiles {
    /// As the user named it.
    pub(super) kernel_name: String,
    pub(super) kernel: GuestKernel,
    pub(super) initrd: Arc<Vec<u8>>,
}

/// What the command line says instead of the scenario.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Instead {
    pub(super) design: Option<Design>,
    pub(super) cycles: Option<u32>,
    pub(super) until: Option<Until>,
}

impl Instead {
    pub(super) fn apply(self, scenario: &mut Scenario) -> Result<(), Failure> {
        let failed = |sentence: String| Failure::user(&sentence);
        if let Some(design) = self.design {
            scenario.override_design(design).map_err(failed)?;
        }
        if let Some(cycles) = self.cycles {
            scenario.override_cycles(cycles).map_err(failed)?;
        }
        if let Some(until) = self.until {
            scenario.until = until;
        }
        Ok(())
    }
}

/// How runs are carried out.
pub(super) struct Way<'a> {
    pub(super) jobs: Jobs,
    /// vCPUs of guests of other processes.
    pub(super) beside: u32,
    pub(super) cold: bool,
    /// Neither progress nor summaries.
    pub(super) quiet: bool,
    pub(super) board: &'a Board,
    /// A folder around all output folders, if there is one that may be shared with a nested machine.
    pub(super) around: Option<&'a Path>,
    /// Told of each run that has ended, with its exit code; its results are on disk then.
    pub(super) ended: &'a (dyn Fn(usize, u8) + Sync),
}

pub(super) fn main(args: &StormArgs) -> Result<u8, Failure> {
    // All that the user can mend comes first: nothing is booted for a scenario with a spelling mistake.
    let runs = prepare(args)?;
    let board = Board::default();
    let way = Way {
        jobs: args.jobs,
        beside: args.beside,
        cold: args.cold,
        quiet: args.quiet,
        board: &board,
        around: None,
        ended: &|_, _| {},
    };
    match host::choose(args.host).map_err(|error| Failure::machine(&error))? {
        Chosen::Kvm(probe) => here(&runs, &probe, &way),
        Chosen::Nested { why } => {
            tell_why(why);
            Ok(nested::all(&runs, &way))
        }
    }
}

fn prepare(args: &StormArgs) -> Result<Vec<Ready>, Failure> {
    let mut runs: Vec<Ready> = Vec::new();
    for file in &args.scenarios {
        let mut scenario = scenario::load(file)?;
        let instead = Instead { design: args.design, cycles: args.cycles, until: args.until };
        instead.apply(&mut scenario)?;
        let guest = guest_files(file, &scenario, args.kernel.as_deref())?;
        for note in guest.kernel.notes.iter().filter(|_| !args.quiet) {
            show::err(&format!("note: {note}\n"));
        }
        let first = args.seed.unwrap_or(scenario.seed);
        for index in 0..u64::from(args.runs) {
            let seed = first.wrapping_add(index);
            let many = args.scenarios.len() > 1 || args.runs > 1;
            let out = out_folder(args, &scenario.name, seed, many, &runs)?;
            runs.push(Ready {
                file: file.clone(),
                scenario: scenario.clone(),
                instead,
                seed,
                guest: guest.clone(),
                out,
            });
        }
    }
    // Not after the first hour. An earlier run's results stay until there is a host to run on.
    for run in &runs {
        RunFolder::check(&run.out).map_err(|error| Failure::user(&error))?;
    }
    Ok(runs)
}

/// What the guests of a scenario are started from: found, built, and such that a machine can load it. `kernel` is the command
/// line's.
pub(super) fn guest_files(file: &Path, scenario: &Scenario, kernel: Option<&str>) -> Result<GuestFiles, Failure> {
    let kernel_name = kernel.or(scenario.guest.kernel.as_deref()).unwrap_or(HOST_KERNEL).to_owned();
    let is_theirs = kernel.is_none();
    let kernel = kernels::resolve(&kernel_name, &mut show::progress)
        .map_err(|error| kernel_failure(is_theirs, file, scenario, &error))?;
    let initrd = initrd(&own::pack(scenario, file, &kernel)?)?;
    let command_line = command_line(&scenario.guest.append);
    loadable(&kernel.image, Some(&initrd), &command_line, scenario.guest.cpus, scenario.guest.memory_bytes)
        .map_err(|error| Failure::user(&error))?;
    Ok(GuestFiles { kernel_name, kernel, initrd })
}

/// The initramfs of a guest with our agent and this.
pub(super) fn initrd(parcel: &Parcel) -> Result<Arc<Vec<u8>>, Failure> {
    let agent = initramfs::agent().map_err(|error| Failure::machine(&error))?;
    initramfs::build(&agent, &parcel.modules, &parcel.extra).map(Arc::new).map_err(|error| Failure::machine(&error))
}

/// A kernel that the scenario names (`is_theirs`) is shown at its place there.
fn kernel_failure(is_theirs: bool, file: &Path, scenario: &Scenario, error: &KernelError) -> Failure {
    if is_theirs
        && let Some(span) = scenario.kernel_span.clone()
        && let Ok(text) = std::fs::read_to_string(file)
    {
        let help = "give a name from `plugstorm kernel list`, a file, or --kernel on the command line";
        let mistake = Mistake::new(span, error.to_string(), help);
        return ScenarioError::from(Mistakes::new(&file.display().to_string(), &text, vec![mistake])).into();
    }
    match error {
        KernelError::Cache(_) => Failure::machine(error),
        _ => Failure::user(error),
    }
}

/// Where a run's results go. Without --out, a folder that is not there yet.
fn out_folder(args: &StormArgs, name: &str, seed: u64, many: bool, earlier: &[Ready]) -> Result<PathBuf, Failure> {
    let design = args.design.map(|design| format!("-{}", design.name())).unwrap_or_default();
    let own = format!("{name}{design}-{seed}");
    let parent = match &args.out {
        Some(out) if !many => return absolute(out),
        Some(out) => out.clone(),
        None => PathBuf::from("plugstorm-out"),
    };
    let parent = absolute(&parent)?;
    let taken = |path: &Path| earlier.iter().any(|run| run.out == path) || (args.out.is_none() && path.exists());
    let numbered = (2u32..).map(|number| parent.join(format!("{own}-{number}")));
    let mut candidates = std::iter::once(parent.join(&own)).chain(numbered);
    candidates.find(|path| !taken(path)).ok_or_else(|| Failure::user(&format!("{} has no room", parent.display())))
}

fn sizes<'a>(runs: impl IntoIterator<Item = &'a Ready>) -> Vec<Size> {
    let guests = runs.into_iter().map(|run| &run.scenario.guest);
    guests.map(|guest| Size { cpus: guest.cpus.into(), memory_mib: guest.memory_bytes.div_ceil(1 << 20) }).collect()
}

/// On this machine's KVM, as many runs at a time as there is room for.
pub(super) fn here(runs: &[Ready], probe: &HostProbe, way: &Way<'_>) -> Result<u8, Failure> {
    let interrupt = interrupt(true)?;
    let (room, sizes) = (Room::here(), sizes(runs));
    let at_a_time = room.at_a_time(way.jobs, &sizes);
    if let Some(shortage) = room.shortage(&sizes, at_a_time) {
        show::err(&format!("warning: {shortage}\n"));
    }
    let crowding = |run: usize| {
        let own = sizes.get(run).map_or(1, |size| size.cpus);
        room.crowding(own, cpus_beside(&sizes, run, at_a_time).saturating_add(way.beside))
    };
    let most = (0..runs.len()).map(crowding).fold(1.0, f64::max);
    if most > 1.0 && probe.slowdown * most > MOST_SLOWDOWN {
        show::err(&format!(
            "warning: side by side guests may be {:.0} times slower than time-outs are meant for, which are multiplied by at \
             most {MOST_SLOWDOWN}: what is slow may be taken for stuck; take fewer with --jobs\n",
            probe.slowdown * most
        ));
    }
    let failed = AtomicBool::new(false);
    let codes = Mutex::new(Vec::new());
    let go_on = || !failed.load(Ordering::Relaxed) && !interrupt.load(Ordering::Relaxed);
    let begun = take_turns(runs.len(), at_a_time, go_on, |turn| {
        let Some(run) = runs.get(turn) else { return };
        // What was measured with nobody beside it.
        let slowdown = (probe.slowdown * crowding(turn)).min(MOST_SLOWDOWN);
        let probe = HostProbe { slowdown, ..probe.clone() };
        let code = one(run, &probe, &interrupt, way).unwrap_or_else(|failure| {
            // What other runs find stands.
            failed.store(true, Ordering::Relaxed);
            way.board.aside(|| failure.show())
        });
        (way.ended)(turn, code);
        codes.lock().unwrap_or_else(PoisonError::into_inner).push(code);
    });
    let mut codes = codes.into_inner().unwrap_or_else(PoisonError::into_inner);
    // A run that a signal ended says so itself; here it is about those that are left over.
    if begun < runs.len() && interrupt.load(Ordering::Relaxed) {
        codes.push(EXIT_INTERRUPTED);
    }
    Ok(worst(codes))
}

fn one(run: &Ready, probe: &HostProbe, interrupt: &AtomicBool, way: &Way<'_>) -> Result<u8, Failure> {
    let scenario = &run.scenario;
    for warning in scenario.warnings.iter().filter(|_| !way.quiet) {
        way.board.aside(|| show::err(&format!("warning: {}: {warning}\n", run.file.display())));
    }
    let mut folder = RunFolder::create(&run.out).map_err(|error| Failure::user(&error))?;
    let begun = running(scenario, run.seed, &run.guest.kernel_name, HostFacts::of(probe), probe.slowdown);
    let unwritable = |error: std::io::Error| {
        Failure::machine(&format!(
            "the results in {} cannot be written: {error}; what was written is kept",
            run.out.display()
        ))
    };
    folder.write_result(&begun).map_err(unwritable)?;
    let plan = Plan::new(scenario, run.seed);
    let parts = GuestParts { kernel: run.guest.kernel.image.clone(), initrd: Arc::clone(&run.guest.initrd) };
    let keeper = if way.cold { None } else { keeper(run)? };
    let mut guest = MachineGuest::new(scenario, parts, keeper);
    let mut progress: Box<dyn Progress> = if way.quiet { Box::new(Quiet) } else { Box::new(way.board.run(run.seed)) };
    let outcome = storm::run(Setting {
        scenario,
        plan: &plan,
        guest: &mut guest,
        journal: &mut folder,
        progress: progress.as_mut(),
        interrupt,
        host_slowdown: probe.slowdown,
        emulated: host::nested::is_inside(),
        kernel: &run.guest.kernel_name,
    });
    drop(guest);
    let (verdict, reason) = judge(scenario, &outcome);
    let code = exit_code_of(verdict, &outcome.ending);
    let disk_failed = matches!(outcome.ending, Ending::Output(_));
    let t_ns = outcome.duration_ns;
    let result = ended(begun, scenario, outcome, folder.console_dropped(), (verdict, reason.clone()));
    let last = Event { t_ns, source: Source::Host, guest_t_ns: None, kind: EventKind::RunEnded { verdict, reason } };
    // The summary is shown even if the disk is full: it may be all there is.
    let told = folder.event(&last).and_then(|()| folder.flush());
    // Tried also where the events did not fit any more: it is small, and it has the verdict.
    let written = folder.write_result(&result).and(told);
    if !way.quiet {
        let shown = format!("{}\nresults in {}\n\n", summary::render(&result), run.out.display());
        way.board.aside(|| show::out(&shown));
    }
    match written {
        Err(error) if !disk_failed => Err(unwritable(error)),
        _ => Ok(code),
    }
}

/// Finds and keeps the snapshot of this run's guests.
fn keeper(run: &Ready) -> Result<Option<Box<dyn Keeper>>, Failure> {
    let guest = &run.guest;
    let (made_of, tsc_khz) = made_of(&guest.kernel, &guest.kernel_name, &guest.initrd, &run.scenario)?;
    match made_of {
        Ok(made_of) => Ok(Some(Box::new(Automatic::new(Store::here(), made_of, tsc_khz)))),
        Err(error) => {
            show::err(&format!("note: guests are booted, since no snapshot can be used: {error}\n"));
            Ok(None)
        }
    }
}

/// What the guests of a scenario are made of on this host, and its TSC.
pub(super) fn made_of(
    kernel: &GuestKernel,
    kernel_name: &str,
    initrd: &[u8],
    scenario: &Scenario,
) -> Result<(Result<MadeOf, SnapshotError>, u32), Failure> {
    let guest = &scenario.guest;
    let host = host_cpu(guest.cpu.into(), guest.cpus).map_err(|error| Failure::machine(&error))?;
    let made_of = Ingredients {
        kernel: &kernel.image,
        kernel_name,
        initrd: Some(initrd),
        command_line: &command_line(&guest.append),
        cpus: guest.cpus,
        memory_bytes: guest.memory_bytes,
        root_ports: root_ports(scenario.devices.len()),
        cpu: guest.cpu.name(),
        cpuid_digest: &digest(&host.cpuid),
        told: &encode(&configuration()).map_err(|error| Failure::machine(&error))?,
    }
    .made_of();
    Ok((made_of, host.tsc_khz))
}

/// As the user sees it.
impl From<GuestError> for Failure {
    fn from(error: GuestError) -> Self {
        match error {
            GuestError::User(_) => Self::user(&error),
            GuestError::Machine(_) => Self::machine(&error),
        }
    }
}
