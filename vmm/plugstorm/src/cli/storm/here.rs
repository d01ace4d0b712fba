//! Runs on this machine's KVM.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::super::run::interrupt;
use super::super::{Failure, show};
use super::{Ready, Way, sizes};
use crate::host::room::{Room, cpus_beside};
use crate::host::{self, HostProbe};
use crate::plan::Plan;
use crate::progress::{Progress, Quiet};
use crate::results::{Event, EventKind, HostFacts, Journal, RunFolder, Source, ended, running};
use crate::storm::machine::{GuestParts, MachineGuest};
use crate::storm::{self, Ending, MOST_SLOWDOWN, Setting};
use crate::summary;
use crate::turns::take_turns;
use crate::verdict::{EXIT_INTERRUPTED, exit_code_of, judge, worst};

/// As many at a time as there is room for. The gravest exit code.
pub(in crate::cli) fn here(runs: &[Ready], probe: &HostProbe, way: &Way<'_>) -> Result<u8, Failure> {
    let interrupt = interrupt(true)?;
    let (room, sizes) = (Room::here(), sizes(runs));
    let at_a_time = room.at_a_time(way.jobs, &sizes);
    if let Some(shortage) = room.shortage(&sizes, at_a_time) {
        show::err(&format!("warning: {shortage}\n"));
    }
    let crowding = |run: usize| {
        let own = sizes.get(run).map_or(1, |size| size.cpus);
        room.crowding(own, cpus_beside(&sizes, run, at_a_time))
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
    let is_over = || failed.load(Ordering::Relaxed) || interrupt.load(Ordering::Relaxed);
    let go_on = || !is_over() && way.audience.wants_more();
    let begun = take_turns(runs.len(), at_a_time, go_on, |turn| {
        let Some(run) = runs.get(turn) else { return };
        // What was measured with nobody beside it.
        let slowdown = (probe.slowdown * crowding(turn)).min(MOST_SLOWDOWN);
        let probe = HostProbe { slowdown, ..probe.clone() };
        way.audience.began(turn);
        let code = one(turn, run, &probe, &interrupt, way).unwrap_or_else(|failure| {
            // What other runs find stands.
            failed.store(true, Ordering::Relaxed);
            way.board.aside(|| failure.show())
        });
        way.audience.ended(turn, code);
        codes.lock().unwrap_or_else(PoisonError::into_inner).push(code);
    });
    let mut codes = codes.into_inner().unwrap_or_else(PoisonError::into_inner);
    // A run that a signal ended says so itself; here it is about those that are left over.
    if begun < runs.len() && interrupt.load(Ordering::Relaxed) {
        codes.push(EXIT_INTERRUPTED);
    }
    Ok(worst(codes))
}

fn one(place: usize, run: &Ready, probe: &HostProbe, interrupt: &AtomicBool, way: &Way<'_>) -> Result<u8, Failure> {
    let scenario = &run.scenario;
    for warning in scenario.warnings.iter().filter(|_| !way.quiet) {
        way.board.aside(|| show::err(&format!("warning: {}: {warning}\n", run.file.display())));
    }
    run.guest.is_unchanged()?;
    let mut folder = RunFolder::create(&run.out).map_err(|error| Failure::user(&error))?;
    let mut begun = running(scenario, run.seed, &run.guest.kernel_name, HostFacts::of(probe), probe.slowdown);
    begun.origin = Some(run.origin());
    let unwritable = |error: std::io::Error| {
        Failure::machine(&format!(
            "the results in {} cannot be written: {error}; what was written is kept",
            run.out.display()
        ))
    };
    folder.write_result(&begun).map_err(unwritable)?;
    let plan = Plan::new(scenario, run.seed);
    let parts = GuestParts { kernel: run.guest.kernel.image.clone(), initrd: Arc::clone(&run.guest.initrd) };
    let keeper = if way.cold { None } else { run.guest.keeper(&run.scenario, &way.shelf)? };
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
    let disk_failed = matches!(outcome.ending, Ending::Output(_));
    let t_ns = outcome.duration_ns;
    let mut result = ended(begun, scenario, outcome, folder.console_dropped(), (verdict, reason.clone()));
    if let Some(known) = way.known {
        known.mark(&mut result);
    }
    let code = exit_code_of(&result);
    let last = Event { t_ns, source: Source::Host, guest_t_ns: None, kind: EventKind::RunEnded { verdict, reason } };
    // The summary is shown even if the disk is full: it may be all there is.
    let told = folder.event(&last).and_then(|()| folder.flush());
    // Tried also where the events did not fit any more: it is small, and it has the verdict.
    let written = folder.write_result(&result).and(told);
    if !way.quiet {
        let shown = format!("{}\nresults in {}\n\n", summary::render(&result), run.out.display());
        way.audience.shown(place, &shown);
    }
    match written {
        Err(error) if !disk_failed => Err(unwritable(error)),
        _ => Ok(code),
    }
}
