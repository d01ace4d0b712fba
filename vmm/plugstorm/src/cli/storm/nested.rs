//! Runs in nested machines, as many of which are at work at a time as this machine has room for.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::super::run::interrupt;
use super::lots::Queue;
use super::machines::{Broken, Left, in_machines};
use super::order::{Listener, Order, Said};
use super::{Audience, Failure, Instead, Ready, Way, absolute, show, sizes};
use crate::host::nested::{Batch, Job, JobOutcome, JobState, Output, Stream, forward, given};
use crate::host::room::{Room, nested_mib};
use crate::own;
use crate::results::RunFolder;
use crate::turns::take_turns;
use crate::verdict::{EXIT_INTERRUPTED, worst};

/// What runs are told by.
const ORDERS: &str = "orders.json";
/// And what is known.
const KNOWN: &str = "known.toml";

/// Carries out all of them. The gravest exit code.
pub(in crate::cli) fn all(runs: &[Ready], way: &Way<'_>) -> Result<u8, Failure> {
    let interrupt = interrupt(true)?;
    let (room, sizes) = (Room::here(), sizes(runs));
    let nested = room.nested(way.jobs, &sizes);
    if let Some(shortage) = room.nested_shortage(&sizes, nested) {
        show::err(&format!("warning: {shortage}\n"));
    }
    let queue = Queue::new(runs.len(), nested.machines);
    let codes = Mutex::new(Vec::new());
    let stopped = AtomicBool::new(false);
    let is_over = || stopped.load(Ordering::Relaxed) || interrupt.load(Ordering::Relaxed) || !way.audience.wants_more();
    let work = |place: usize| {
        let at_a_time = nested.at_a_time(place);
        while !is_over()
            && let Some(lot) = queue.take()
        {
            let machine = |left: &[usize]| one_machine(runs, left, at_a_time, way, &is_over);
            let keep = |number: usize| runs.get(number).map(keep_what_is_left).unwrap_or_default();
            let (ended, is_whole) = in_machines(lot, machine, keep, way.audience, &is_over);
            stopped.fetch_or(!is_whole, Ordering::Relaxed);
            codes.lock().unwrap_or_else(PoisonError::into_inner).extend(ended);
        }
    };
    // Each takes lots until there are none left.
    take_turns(nested.machines, nested.machines, || true, work);
    let mut codes = codes.into_inner().unwrap_or_else(PoisonError::into_inner);
    // A process that a signal ended may have had no time to say so.
    if interrupt.load(Ordering::Relaxed) && (stopped.into_inner() || queue.take().is_some()) {
        codes.push(EXIT_INTERRUPTED);
    }
    Ok(worst(codes))
}

/// Of a run that its machine did not survive. As the end of a sentence.
fn keep_what_is_left(run: &Ready) -> String {
    let (name, seed) = (&run.scenario.name, run.seed);
    match RunFolder::set_aside(&run.out) {
        Ok(Some(kept)) => format!("; what {name}, seed {seed}, had collected is in {}", kept.display()),
        Ok(None) => String::new(),
        Err(error) => format!("; what {name}, seed {seed}, had collected is lost: {error}"),
    }
}

/// Carries out those of the runs that are given by their numbers, until `is_over`.
fn one_machine(
    runs: &[Ready],
    given_runs: &[usize],
    at_a_time: usize,
    way: &Way<'_>,
    is_over: &dyn Fn() -> bool,
) -> Result<Left, Failure> {
    let numbered: Vec<(usize, &Ready)> =
        given_runs.iter().filter_map(|number| Some((*number, runs.get(*number)?))).collect();
    let runs: Vec<&Ready> = numbered.iter().map(|(_, run)| *run).collect();
    let sizes = sizes(runs.iter().copied());
    // A machine after the first has fewer.
    let at_a_time = at_a_time.min(runs.len());
    let mut batch = Batch::new().memory_mib(nested_mib(&sizes, at_a_time)).guests(at_a_time).snapshots(!way.cold);
    for run in &runs {
        let output = way.around.map_or_else(|| shared_out(&runs, run), Path::to_path_buf);
        batch = batch.input(absolute(&run.file)?).output(output);
        for source in own::sources(&run.scenario, &run.file) {
            batch = batch.input(absolute(&source)?);
        }
        if let Some(file) = run.guest.kernel.file() {
            batch = batch.input(absolute(file)?);
        }
    }
    let orders = runs.iter().map(|run| order(run)).collect::<Result<Vec<_>, _>>()?;
    let orders = serde_json::to_vec(&orders).map_err(|error| Failure::machine(&error))?;
    let mut batch = batch.file(ORDERS, orders).job(job(at_a_time, way));
    if let Some(known) = way.known {
        batch = batch.file(KNOWN, known.text().as_bytes().to_vec());
    }
    let mut states = vec![JobState::Waiting; runs.len()];
    let mut listener = Listener::default();
    let mut sink = |output: Output<'_>| match output.stream {
        Stream::Stderr => way.board.aside(|| forward(output)),
        Stream::Stdout => listener.hear(output.bytes, |said| match said {
            Ok(said) => hear(&said, &mut states, &numbered, way.audience),
            Err(bytes) => way.board.aside(|| forward(Output { bytes, ..output })),
        }),
    };
    let report = batch.run_until(&mut sink, is_over)?;
    for note in &report.notes {
        way.board.aside(|| show::err(&format!("note: {note}\n")));
    }
    let ended = report.jobs.first().and_then(|job| job.outcome());
    let failure = match (report.failure, ended) {
        (Some(failure), _) => Some(Broken::Machine(failure)),
        // A signal ended it.
        (None, None) => None,
        (None, Some(ended)) if ended.exit_code == i32::from(EXIT_INTERRUPTED) => None,
        (None, Some(ended)) => Some(Broken::Process(ended.exit_code)),
    };
    Ok(Left { runs: states, failure })
}

/// Takes note of what is said of a run, and passes it on with the run's own number.
fn hear(said: &Said, states: &mut [JobState], numbered: &[(usize, &Ready)], audience: &dyn Audience) {
    let (Said::Began { run } | Said::Shown { run, .. } | Said::Ended { run, .. }) = *said;
    let (Some(state), Some((number, _))) = (states.get_mut(run), numbered.get(run)) else { return };
    match said {
        Said::Began { .. } => {
            *state = JobState::UnderWay;
            audience.began(*number);
        }
        Said::Shown { text, .. } => audience.shown(*number, text),
        Said::Ended { code, .. } => {
            *state = JobState::Ended(JobOutcome { exit_code: i32::from(*code) });
            audience.ended(*number, *code);
        }
    }
}

/// Runs with one parent share it: a nested machine takes only so many folders.
fn shared_out(runs: &[&Ready], run: &Ready) -> PathBuf {
    let parent = run.out.parent();
    let siblings = runs.iter().filter(|other| other.out.parent() == parent).count();
    match parent {
        Some(parent) if siblings > 1 => parent.to_path_buf(),
        _ => run.out.clone(),
    }
}

/// The same run, on the KVM of a nested host. A kernel in the cache keeps its name; the cache is shared. A file needs a path
/// that means the same inside.
fn order(run: &Ready) -> Result<Order, Failure> {
    let guest = &run.guest;
    let kernel = match guest.kernel.file() {
        Some(file) => absolute(file)?.into_os_string(),
        None => guest.kernel_name.clone().into(),
    };
    let Instead { design, cycles, until } = run.instead;
    Ok(Order {
        file: absolute(&run.file)?.into_os_string(),
        named: run.named.clone(),
        digest: run.digest.clone(),
        guest_digest: run.guest_digest.clone(),
        kernel,
        design,
        cycles,
        until,
        seed: run.seed,
        out: run.out.clone().into_os_string(),
    })
}

/// What carries them out.
fn job(at_a_time: usize, way: &Way<'_>) -> Job {
    let mut argv: Vec<OsString> = ["carry-out", "--jobs"].map(OsString::from).to_vec();
    argv.extend([at_a_time.to_string().into(), given(ORDERS).into_os_string()]);
    argv.extend(way.cold.then(|| "--cold".into()));
    argv.extend(way.quiet.then(|| "--quiet".into()));
    if let Some(known) = way.known {
        let today = known.today().to_string();
        argv.extend(["--known".into(), given(KNOWN).into_os_string(), "--today".into(), today.into()]);
    }
    Job { argv, directory: PathBuf::from("/"), environment: Vec::new() }
}
