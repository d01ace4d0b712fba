//! From evidence to a report.

use std::collections::BTreeMap;

use super::frames::{is_plumbing, is_removal, subsystem_frame, takes_device_lock, wait_frame};
use super::lock_waits::{self, LockWait};
use super::stacks::{Evidence, HangReport, Holder, Movement, StackedTask, Wait, WaitKind, Waiter};
use crate::symbol::Symbol;
use crate::timing::{OpenSpan, duration};
use crate::trace::Span;

/// Tasks looked at in a dump. A guest may send any number.
const MAX_TASKS: usize = 4096;
/// Frames looked at in a stack (`/proc/PID/stack` gives at most 64).
const MAX_FRAMES: usize = 128;
/// Waiters and holders kept in a report.
const MAX_LISTED: usize = 64;
/// Frames kept in a report.
const MAX_FRAMES_KEPT: usize = 24;
/// Threads named in the paragraph.
const MAX_NAMED: usize = 3;

/// Says who waits for whom. Gives nothing if no task executes a removal and no span of a removal is open.
#[must_use]
pub fn explain(evidence: &Evidence<'_>) -> Option<HangReport> {
    let later: BTreeMap<u32, &StackedTask> =
        evidence.second.iter().take(MAX_TASKS).map(|task| (task.tid, task)).collect();
    let dump = if evidence.first.is_empty() { evidence.second } else { evidence.first };
    let mut waiters = Vec::new();
    let mut holders = Vec::new();
    for task in dump.iter().take(MAX_TASKS) {
        let after = later.get(&task.tid).copied().filter(|_| !evidence.first.is_empty());
        if !evidence.second.is_empty() && !later.contains_key(&task.tid) {
            continue; // It has ended since: it hangs in nothing.
        }
        let functions = functions(task);
        if let Some(waiter) = waiter(task, &functions, after, evidence) {
            waiters.push(waiter);
        } else if let Some(holder) = holder(task, &functions, after) {
            holders.push(holder);
        }
    }
    // A task that waits for a lock waits for another task: the one that everything hangs on comes first.
    waiters.sort_by_key(|waiter| (waiter.movement == Movement::Elsewhere, waiter.wait.kind, waiter.tid));
    waiters.truncate(MAX_LISTED);
    holders.sort_by_key(|(rank, holder): &(usize, Holder)| (holder.movement != Movement::Still, *rank, holder.tid));
    let mut waited_for: Vec<_> = holders.into_iter().map(|(_, holder)| holder).collect();
    waited_for.truncate(MAX_LISTED);
    let unbalanced: Vec<_> = evidence.balances.iter().filter(|domain| domain.inside() != [0, 0]).cloned().collect();

    let open = removal_open(evidence.open);
    let subject = match (waiters.first(), open) {
        (Some(waiter), _) => waited(&waiter.wait),
        (None, Some(open)) if open.span == Span::GracePeriod => {
            let caller = open.caller.as_ref().map_or("an unknown function", |caller| caller.name.as_str());
            format!("{} waits in {}", readable(caller), readable(&open.function))
        }
        (None, Some(open)) => format!("{} has not returned", readable(&open.function)),
        (None, None) => return None,
    };
    let tasks: BTreeMap<u32, &StackedTask> = dump.iter().take(MAX_TASKS).map(|task| (task.tid, task)).collect();
    let (mut locks, mut lock_waits) = lock_waits::part(evidence.locks, &tasks);
    let concerned: Vec<u32> =
        waiters.iter().map(|waiter| waiter.tid).chain(waited_for.iter().map(|holder| holder.tid)).collect();
    lock_waits::concerning(&concerned, &mut locks, &mut lock_waits);
    waited_for.extend(owners(&concerned, &lock_waits, &tasks, &later));
    waited_for.truncate(MAX_LISTED);
    let title = format!("removal never ends: {subject}{}", blamed(&waiters, &waited_for, &unbalanced));
    let mut report =
        HangReport { title, explanation: String::new(), waiters, waited_for, unbalanced, locks, lock_waits };
    report.explanation = paragraph(&report, open, evidence, &tasks);
    Some(report)
}

/// The title's last part: what it waits for. Only threads that stood still are named, so that the title is the same
/// from run to run.
fn blamed(waiters: &[Waiter], holders: &[Holder], unbalanced: &[super::DomainBalance]) -> String {
    if waiters.first().is_some_and(|waiter| waiter.wait.kind == WaitKind::DeviceReset) {
        return String::new();
    }
    match holders.iter().find(|holder| is_fixed(holder.movement)) {
        Some(holder) => format!(" for {}", holder.function),
        None if !unbalanced.is_empty() => " for a reader that does not exist".to_owned(),
        None => String::new(),
    }
}

fn is_fixed(movement: Movement) -> bool {
    matches!(movement, Movement::Still | Movement::SeenOnce)
}

fn waited(wait: &Wait) -> String {
    match &wait.function {
        Some(function) => format!("{} waits in {function}", wait.caller),
        None => format!("{} waits", wait.caller),
    }
}

/// The functions of a stack, innermost first; what is no symbol is left out.
fn functions(task: &StackedTask) -> Vec<String> {
    let symbols = task.stack.iter().take(MAX_FRAMES).filter_map(|frame| {
        // As /proc/PID/stack has it: "[<0>] gpiochip_remove+0x66/0x160".
        Symbol::parse(frame.trim().strip_prefix("[<0>]").unwrap_or(frame))
    });
    symbols.map(|symbol| symbol.name).collect()
}

fn kept_stack(task: &StackedTask) -> Vec<String> {
    task.stack.iter().take(MAX_FRAMES_KEPT).map(|frame| readable(frame)).collect()
}

/// Guest text within bounds and without control characters.
fn readable(text: &str) -> String {
    text.chars().take(128).map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

fn movement(task: &StackedTask, functions_before: &[String], after: Option<&StackedTask>) -> Movement {
    match after {
        None => Movement::SeenOnce,
        Some(after) if functions(after) != functions_before => Movement::Elsewhere,
        Some(after) if after.switches != task.switches => Movement::SamePlace,
        Some(_) => Movement::Still,
    }
}

fn waiter(
    task: &StackedTask,
    functions: &[String],
    after: Option<&StackedTask>,
    evidence: &Evidence<'_>,
) -> Option<Waiter> {
    if task.hammer.is_some() {
        return None;
    }
    let removal = functions.iter().rfind(|function| is_removal(function))?;
    let wait = wait_of(functions)?;
    Some(Waiter {
        tid: task.tid,
        comm: readable(&task.comm),
        removal: removal.clone(),
        movement: movement(task, functions, after),
        waited_ns: waited_ns(task.tid, evidence),
        wait,
        stack: kept_stack(task),
    })
}

/// What the innermost frames wait in. Frames before the first removal function are looked through for a known wait; the
/// frame outside of it is the caller that tells one wait from another.
fn wait_of(functions: &[String]) -> Option<Wait> {
    // A poll inside a reset is a reset: the kinds are in the order of how much they tell.
    let innermost_removal = functions.iter().position(|function| is_removal(function)).unwrap_or(functions.len());
    let head = functions.get(..innermost_removal).unwrap_or_default();
    let best = head
        .iter()
        .enumerate()
        .filter_map(|(index, function)| Some((index, wait_frame(function)?)))
        .min_by_key(|(index, frame)| (frame.kind, *index));
    if let Some((index, frame)) = best {
        let caller = functions.get(index + 1..)?.iter().find(|function| {
            wait_frame(function).is_none_or(|outer| outer.kind != frame.kind) && !is_plumbing(function)
        });
        let caller = caller.cloned().unwrap_or_else(|| frame.shown.to_owned());
        return Some(Wait { kind: frame.kind, function: Some(frame.shown.to_owned()), caller });
    }
    let caller = functions.iter().find(|function| !is_plumbing(function))?.clone();
    if takes_device_lock(&caller) {
        return Some(Wait { kind: WaitKind::Lock, function: Some("device_lock".to_owned()), caller });
    }
    Some(Wait { kind: WaitKind::Unnamed, function: None, caller })
}

fn waited_ns(tid: u32, evidence: &Evidence<'_>) -> Option<u64> {
    let clock = evidence.clock?;
    // The span furthest inside is the wait itself.
    let span = evidence.open.iter().filter(|span| span.pid == tid).max_by_key(|span| (span.span, span.since_ticks))?;
    elapsed_ns(span, clock)
}

fn elapsed_ns(span: &OpenSpan, clock: super::Clock) -> Option<u64> {
    let ticks = clock.now_ticks.checked_sub(span.since_ticks)?;
    let ns = u128::from(ticks) * 1_000_000 / u128::from(clock.tsc_khz.max(1));
    u64::try_from(ns).ok()
}

/// The open span of a removal that says most: the one furthest inside.
fn removal_open(open: &[OpenSpan]) -> Option<&OpenSpan> {
    let removing = |span: &&OpenSpan| !matches!(span.span, Span::SlotEvent | Span::AddBelowPort | Span::GracePeriod);
    let removal = open.iter().filter(removing).max_by_key(|span| (span.span, span.since_ticks))?;
    let wait = open.iter().find(|span| span.span == Span::GracePeriod && span.pid == removal.pid);
    Some(wait.unwrap_or(removal))
}

fn holder(task: &StackedTask, functions: &[String], after: Option<&StackedTask>) -> Option<(usize, Holder)> {
    let (function, (rank, frame)) =
        functions.iter().find_map(|function| Some((function, subsystem_frame(function)?)))?;
    let movement = movement(task, functions, after);
    // Who sleeps inside is more telling than who happens to be there.
    let rank = if frame.sleeps { rank } else { rank + 1000 };
    let holder = Holder {
        tid: task.tid,
        comm: readable(&task.comm),
        function: function.trim_start_matches('_').to_owned(),
        doing: frame.doing.to_owned(),
        hammer: task.hammer.as_deref().map(readable),
        operation: task.operation.as_deref().map(readable),
        movement,
        stack: kept_stack(task),
    };
    Some((rank, holder))
}

/// Whoever has a lock that one of these waits for, and is none of them.
fn owners(
    concerned: &[u32],
    waits: &[LockWait],
    tasks: &BTreeMap<u32, &StackedTask>,
    later: &BTreeMap<u32, &StackedTask>,
) -> Vec<Holder> {
    let mut owners: Vec<Holder> = Vec::new();
    for (wait, owner) in waits.iter().flat_map(|wait| wait.held_by.iter().map(move |owner| (wait, owner))) {
        let known = concerned.contains(&owner.tid) || owners.iter().any(|known| known.tid == owner.tid);
        let Some(task) = tasks.get(&owner.tid).filter(|_| !known && owners.len() < MAX_LISTED) else { continue };
        let Some(function) = lock_waits::place(task) else { continue };
        owners.push(Holder {
            tid: task.tid,
            comm: readable(&task.comm),
            function,
            doing: format!("with {} held", wait.lock.name),
            hammer: task.hammer.as_deref().map(readable),
            operation: task.operation.as_deref().map(readable),
            movement: movement(task, &functions(task), later.get(&task.tid).copied()),
            stack: kept_stack(task),
        });
    }
    owners
}

fn paragraph(
    report: &HangReport,
    open: Option<&OpenSpan>,
    evidence: &Evidence<'_>,
    tasks: &BTreeMap<u32, &StackedTask>,
) -> String {
    let mut sentences = Vec::new();
    match report.waiters.first() {
        Some(waiter) => sentences.extend(about_waiter(waiter)),
        None => sentences.extend(open.map(|open| about_span(open, evidence))),
    }
    let device_at_fault = report.waiters.first().is_some_and(|waiter| waiter.wait.kind == WaitKind::DeviceReset);
    let said_by_counters = report.waited_for.is_empty() && !report.unbalanced.is_empty();
    if !device_at_fault && !said_by_counters {
        sentences.extend(about_holders(report, evidence.balances));
    }
    for domain in &report.unbalanced {
        let [inside0, inside1] = domain.inside();
        let nobody = if report.waited_for.iter().any(|holder| is_fixed(holder.movement)) {
            ""
        } else {
            "No thread is inside a read-side section: the domain's count is unbalanced. "
        };
        sentences.push(format!(
            "{nobody}By its counters, the readers inside {} are {inside0} at index 0 and {inside1} at index 1.",
            readable(&domain.name)
        ));
    }
    if let Some(others) = report.waiters.get(1..).filter(|others| !others.is_empty()) {
        let named = others.iter().take(MAX_NAMED).map(|other| format!("{} ({})", other.comm, waited(&other.wait)));
        sentences.push(format!(
            "Behind it {} more {}: {}.",
            others.len(),
            if others.len() == 1 { "task waits" } else { "tasks wait" },
            join(named.collect(), others.len())
        ));
    }
    sentences.extend(lock_waits::sentences(&report.locks, &report.lock_waits, tasks));
    sentences.join(" ")
}

fn about_waiter(waiter: &Waiter) -> [String; 2] {
    let since = waiter.waited_ns.map_or_else(String::new, |ns| format!(" for {}", duration(ns)));
    let meaning =
        waiter.wait.function.as_deref().and_then(wait_frame_shown).unwrap_or("and the stack does not say for what");
    let place = match &waiter.wait.function {
        Some(function) => format!("in {function}, called by {}", waiter.wait.caller),
        None => format!("in {}", waiter.wait.caller),
    };
    let moved = match waiter.movement {
        Movement::Still => "It did not run between two looks at it.",
        Movement::SamePlace => "Between two looks at it it ran, but was in the same place again.",
        Movement::Elsewhere => "Between two looks at it it moved: it may be slow and not stuck.",
        Movement::SeenOnce => "It was looked at only once.",
    };
    [
        format!(
            "The task {} ({}) is taking the device away ({}) and has been waiting{since} {place}: it waits {meaning}.",
            waiter.comm, waiter.tid, waiter.removal
        ),
        moved.to_owned(),
    ]
}

fn wait_frame_shown(shown: &str) -> Option<&'static str> {
    wait_frame(shown).map(|frame| frame.meaning)
}

fn about_span(open: &OpenSpan, evidence: &Evidence<'_>) -> String {
    let since = evidence.clock.and_then(|clock| elapsed_ns(open, clock));
    let since = since.map_or_else(String::new, |ns| format!(" {} ago", duration(ns)));
    let caller = open.caller.as_ref().map_or_else(String::new, |caller| format!(", called by {caller},"));
    format!(
        "The trace says that the task {} ({}) entered {}{caller}{since} and has not come back; no dump of tasks shows where \
         it is.",
        readable(&open.task),
        open.pid,
        readable(&open.function)
    )
}

/// Whether those who are inside are inside what is waited for: there is one domain of whose readers the counters tell, it is our
/// module's that waits, and there are as many. Else each device has its own domain, and a stack does not tell which it is.
fn are_counted(same: usize, waiter: &Waiter, balances: &[super::DomainBalance]) -> bool {
    let [domain] = balances else { return false };
    let inside: i64 = domain.inside().into_iter().fold(0, i64::saturating_add);
    waiter.stack.iter().any(|frame| frame.contains("plugstorm_")) && usize::try_from(inside) == Ok(same)
}

fn about_holders(report: &HangReport, balances: &[super::DomainBalance]) -> Vec<String> {
    let (holders, waiter) = (&report.waited_for, report.waiters.first());
    let still: Vec<_> = holders.iter().filter(|holder| is_fixed(holder.movement)).collect();
    let Some(first) = still.first() else {
        return match holders.len() {
            0 => vec!["No thread was found inside the subsystem.".to_owned()],
            n => {
                vec![format!("{n} threads are inside the subsystem, but they come and go: none of them stands still.")]
            }
        };
    };
    let same: Vec<_> = still.iter().filter(|holder| holder.function == first.function).collect();
    let named = same.iter().take(MAX_NAMED).map(|holder| match (&holder.hammer, &holder.operation) {
        (Some(hammer), Some(operation)) => format!("{} ({operation} of hammer {hammer})", holder.tid),
        (Some(hammer), None) => format!("{} (hammer {hammer})", holder.tid),
        _ => format!("{} ({})", holder.tid, holder.comm),
    });
    let mut sentences = vec![format!(
        "{} {} in {}, {}: {}.",
        if same.len() == 1 { "One thread".to_owned() } else { format!("{} threads", same.len()) },
        if same.len() == 1 { "is" } else { "are" },
        first.function,
        first.doing,
        join(named.collect(), same.len())
    )];
    if still.len() > same.len() {
        sentences.push(format!("{} more stand still elsewhere in the subsystem.", still.len() - same.len()));
    }
    let one = same.len() == 1;
    // Only of these is it known that whoever is inside is waited for.
    let waiter = waiter.filter(|waiter| waiter.wait.kind == WaitKind::Srcu);
    let is_known = waiter.is_none_or(|waiter| are_counted(same.len(), waiter, balances));
    if let Some(waiter) = waiter {
        let whom = same.iter().take(MAX_NAMED).map(|holder| holder.tid.to_string()).collect();
        sentences.push(format!(
            "So thread {}, in {}, {} {} {} to leave {}{}.",
            waiter.tid,
            waiter.wait.caller,
            if is_known { "waits for" } else { "may wait for" },
            if one { "thread" } else { "threads" },
            join(whom, same.len()),
            first.function,
            match (is_known, one) {
                (true, _) => "",
                (false, true) => ": it does if that one is at the device that is taken away",
                (false, false) => ": it does if those are at the device that is taken away",
            }
        ));
    }
    if subsystem_frame(&first.function).is_some_and(|(_, frame)| frame.sleeps) {
        let (who, whom) = if one { ("that one sleeps", "it") } else { ("those sleep", "them") };
        let source = format!(
            "hat {who} for would have to come from the device, which is gone, or from the removal, which waits for {whom}"
        );
        sentences.push(match is_known {
            true => format!("W{source}: neither side can go on."),
            false => format!("Then neither side can go on: w{source}."),
        });
    }
    sentences
}

fn join(mut named: Vec<String>, all: usize) -> String {
    if all > named.len() {
        named.push(format!("{} more", all - named.len()));
    }
    named.join(", ")
}
