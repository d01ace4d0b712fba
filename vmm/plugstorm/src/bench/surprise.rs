//! From a surprise removal to the first call that is told of it: a real device of our driver's is pulled out under a thread that never
//! stops using it.

use plugstorm_wire::{Edge, FromGuest, HammerSpec, HammerTarget, Operation, PciAddress, Sharing, ToGuest};

use super::model::{Measure, Sample};
use super::request::Answer;
use super::session::{Session, SessionError, WORD_NS};
use crate::scenario::Design;

/// The measure's name.
pub const SURPRISE: &str = "surprise";
/// For a device to come, and to go, times the slowdown, in nanoseconds.
const DEVICE_NS: u64 = 10_000_000_000;
/// How long the thread uses the device before it goes, and goes on after.
const USE_NS: u64 = 20_000_000;
/// Removals of one measure.
const MOST_ROUNDS: u32 = 100;

/// The hammers of a guest whose slots have devices of these designs, one each.
#[must_use]
pub fn hammers(designs: &[Design], port: impl Fn(usize) -> PciAddress) -> Vec<HammerSpec> {
    let hammer = |(slot, design): (usize, &Design)| HammerSpec {
        name: design.name().to_owned(),
        port: port(slot),
        target: HammerTarget::Plugstorm,
        node: None,
        program: Vec::new(),
        threads: 1,
        sharing: Sharing::Own,
        operations: vec![Operation::IoctlTouch],
        lines: vec![0],
        edge: Edge::None,
        from: None,
        pause_min_ns: 0,
        pause_max_ns: 0,
    };
    designs.iter().enumerate().map(hammer).collect()
}

/// Pulls the device of the measure's design out, so many times. A sample of thread 0 is from the removal to the first call that gave
/// `ENODEV`; one of thread 1 to the end of the removal on its bus.
///
/// # Errors
/// [`SessionError`]: a device that does not come or go is one.
pub fn measure(session: &mut Session<'_>, measure: &Measure) -> Result<Answer, SessionError> {
    let refused = |error: &str| Ok(Answer { error: Some(error.to_owned()), ..Answer::default() });
    let Some((slot, design)) = session.slot(measure.design.as_deref().unwrap_or_default()) else {
        return refused("no slot has a device of this design");
    };
    if design == Design::Unprotected {
        return refused("nothing tells a reader of this design that the device has gone");
    }
    let rounds = measure.settings.get("rounds").and_then(|rounds| rounds.parse().ok()).unwrap_or(1).min(MOST_ROUNDS);
    let mut answer = Answer::default();
    for round in 0..rounds {
        let (told_ns, gone_ns) = once(session, slot, design)?;
        let Some(told_ns) = told_ns else { return refused("no call was told that the device had gone") };
        answer.samples.push(Sample { round, thread: 0, value: told_ns, count: 1 });
        answer.samples.push(Sample { round, thread: 1, value: gone_ns, count: 1 });
    }
    Ok(answer)
}

/// One removal: nanoseconds to the first `ENODEV`, if there was one, and to the end on the bus.
fn once(session: &mut Session<'_>, slot: usize, design: Design) -> Result<(Option<u64>, u64), SessionError> {
    let name = design.name();
    session.guest().plug(slot)?;
    let (start, stop) = (session.id(), session.id());
    session.guest().send(&ToGuest::StartHammer { id: start, hammer: name.to_owned(), seed: 1 })?;
    let started = session.wait(DEVICE_NS, &format!("did not use a device of {name}"), |message| match message {
        FromGuest::HammerStarted { id, .. } if id == start => Some(Ok(())),
        FromGuest::Done { id, error, .. } if id == start => Some(Err(error.unwrap_or_default())),
        _ => None,
    })?;
    if let Err(error) = started {
        return Err(SessionError::cut(&format!("the guest did not use a device of {name}: {error}")));
    }
    session.let_run(USE_NS)?;
    let port = session.guest().port(slot);
    let removed_ns = session.guest().now_ns();
    session.guest().surprise_remove(slot)?;
    let gone_tsc =
        session.wait(
            DEVICE_NS,
            &format!("did not end the removal of a device of {name}"),
            |message| match message {
                FromGuest::Uevent { tsc, action, devpath, subsystem, .. }
                    if action == "remove" && subsystem == "pci" && devpath.contains(&port.0) =>
                {
                    Some(tsc)
                }
                _ => None,
            },
        )?;
    // A thread that the removal has kept from its CPU makes its next call only now.
    session.let_run(USE_NS)?;
    let grace_ms = WORD_NS / 1_000_000;
    session.guest().send(&ToGuest::StopHammer { id: stop, hammer: name.to_owned(), grace_ms })?;
    let told_tsc = session.wait(WORD_NS, "did not stop using its device", |message| match message {
        FromGuest::HammerReport { id, operations, .. } if id == stop => {
            Some(operations.iter().filter_map(|operation| operation.gone_tsc).min())
        }
        _ => None,
    })?;
    // By the one clock that host and guest have.
    let since = |tsc: u64| match session.tsc_to_ns(tsc).map(|ns| ns.checked_sub(removed_ns)) {
        Some(Some(ns)) => Ok(ns),
        Some(None) => Err(SessionError::cut("the guest says that the removal ended, or was told, before it began")),
        None => Err(SessionError::cut(
            "host and guest have no clock in common: the guest's time-stamp counter is not known",
        )),
    };
    Ok((told_tsc.map(since).transpose()?, since(gone_tsc)?))
}
