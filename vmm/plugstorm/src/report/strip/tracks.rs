//! From events to marks.

use std::collections::BTreeMap;

use plugstorm_observe::timing::GracePeriodMode;
use plugstorm_observe::trace::{Role, Span, TraceEvent, probe};

use super::{Extent, Mark, Strip, Tone, Track, Window, Zero};
use crate::report::text::one_line;
use crate::results::{Event, EventKind};
use crate::summary::duration;

/// What is drawn of the time before the removal, in nanoseconds.
const LEAD_NS: u64 = 400_000_000;
/// And after the finding.
const AFTER_NS: u64 = 300_000_000;
/// Marks of one track. More cannot be told apart; the last ones are nearest to the finding.
const MOST_MARKS: usize = 48;
/// Bars below each other in one track.
const MOST_ROWS: usize = 12;
/// Tasks whose spans are followed.
const MOST_TASKS: usize = 64;
/// Spans of a task inside each other.
const MOST_DEPTH: usize = 32;
/// A text is cut here, in characters.
const MOST_TEXT: usize = 80;

/// The strip of a window. None if there is nothing to draw.
pub(super) fn strip(window: &Window) -> Option<Strip> {
    let found_ns = window.events.get(window.found)?.t_ns;
    let zero = zero(window);
    let begin_ns = zero.at_ns.saturating_sub(LEAD_NS);
    let end_ns = found_ns.saturating_add(AFTER_NS);
    let mut drawing = Drawing::default();
    for event in &window.events {
        let at_ns = at(event);
        if at_ns <= end_ns {
            drawing.take(at_ns, event);
        }
    }
    let Drawing { mut tracks, tasks, hammers, programs, .. } = drawing;
    for open in tasks.into_values().flatten().chain(hammers.into_values()).chain(programs.into_values()) {
        push(&mut tracks, open.track, open.mark);
    }
    let mut left_out = 0;
    for (track, marks) in &mut tracks {
        marks.retain(|mark| mark.end_ns(end_ns) >= begin_ns);
        // What began before is drawn from the edge.
        marks.iter_mut().for_each(|mark| mark.at_ns = mark.at_ns.max(begin_ns));
        marks.sort_by_key(|mark| (mark.at_ns, mark.row));
        let more = marks.len().saturating_sub(MOST_MARKS);
        // The first of what is asked for stays: it is zero.
        let keep_first = usize::from(*track == Of::Host && more > 0);
        marks.drain(keep_first..(keep_first + more).min(marks.len()));
        left_out += more;
    }
    let drawn = || tracks.values().flatten();
    let first = drawn().map(|mark| mark.at_ns).min()?;
    let last = drawn().filter(|mark| mark.extent != Extent::Open).map(|mark| mark.end_ns(end_ns)).max()?;
    // Open bars reach to the last thing that happened.
    let last = last.max(found_ns);
    let tracks = tracks.into_iter().map(|(of, marks)| Track { name: of.name(), marks }).collect();
    Some(Strip { zero, begin_ns: first, end_ns: last, tracks, left_out })
}

/// When an event happened: by the guest's clock where it told, but never after the host learnt of it.
fn at(event: &Event) -> u64 {
    event.guest_t_ns.unwrap_or(event.t_ns).min(event.t_ns)
}

/// The removal that the finding is about, or what else was asked for last.
fn zero(window: &Window) -> Zero {
    let before = window.events.get(..=window.found).unwrap_or_default();
    let asked = before.iter().rev().find_map(|event| match &event.kind {
        EventKind::RemovalAsked { device, .. } => Some((event, format!("{} asked for", removal_of(device)))),
        EventKind::AddAsked { device, .. } => Some((event, format!("the add of {} asked for", text(device)))),
        _ => None,
    });
    let found = || before.last().map(|event| (event, "the finding".to_owned()));
    let (at_ns, what) = asked.or_else(found).map_or((0, String::new()), |(event, what)| (at(event), what));
    Zero { at_ns, what }
}

fn removal_of(device: &str) -> String {
    format!("the removal of {}", text(device))
}

fn text(text: &str) -> String {
    let text = one_line(text);
    match text.char_indices().nth(MOST_TEXT) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// Whose track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Of {
    Host,
    Slot,
    Guest,
    Hammers,
    Removal,
    GracePeriods,
}

impl Of {
    fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Slot => "slot registers",
            Self::Guest => "guest",
            Self::Hammers => "hammers",
            Self::Removal => "hot-plug thread",
            Self::GracePeriods => "grace periods",
        }
    }
}

/// A bar whose end has not been met.
#[derive(Debug, Clone)]
struct OpenBar {
    track: Of,
    span: Option<Span>,
    mark: Mark,
}

#[derive(Debug, Default)]
struct Drawing {
    tracks: BTreeMap<Of, Vec<Mark>>,
    /// Open spans, by thread.
    tasks: BTreeMap<u32, Vec<OpenBar>>,
    hammers: BTreeMap<String, OpenBar>,
    programs: BTreeMap<String, OpenBar>,
    /// Hammers by row.
    rows: Vec<String>,
}

fn push(tracks: &mut BTreeMap<Of, Vec<Mark>>, of: Of, mark: Mark) {
    let marks = tracks.entry(of).or_default();
    // The window is bounded, and so is this.
    marks.push(mark);
}

impl Drawing {
    fn point(&mut self, of: Of, at_ns: u64, tone: Tone, words: String) {
        push(&mut self.tracks, of, Mark { at_ns, extent: Extent::Point, row: 0, text: words, tone });
    }

    fn take(&mut self, at_ns: u64, event: &Event) {
        use EventKind as Kind;
        let mut host = |tone, words: String| self.point(Of::Host, at_ns, tone, words);
        match &event.kind {
            Kind::AddAsked { device, by, .. } => host(Tone::Asked, format!("add {} ({})", text(device), text(by))),
            Kind::RemovalAsked { device, how, .. } => {
                host(Tone::Asked, format!("remove {} ({})", text(device), how.name()));
            }
            Kind::Migrated { ns, .. } => host(Tone::Plain, format!("migrated in {}", duration(*ns))),
            Kind::RemovalStuck { after_ns, .. } => {
                host(Tone::Bad, format!("removal not ended after {}", duration(*after_ns)));
            }
            Kind::Found { kind, .. } => host(Tone::Bad, format!("found: {}", kind.name())),
            Kind::GuestEnded { cause } => host(Tone::Bad, format!("guest ended: {}", text(cause))),
            Kind::Slot { what, .. } => self.point(Of::Slot, at_ns, Tone::Plain, text(what)),
            Kind::AddFinished { node, .. } => {
                self.point(Of::Guest, at_ns, Tone::Plain, format!("{} is there", text(node)));
            }
            // Both are told when the removal is over.
            Kind::RemovalSeen { by, at_ns: seen_ns, .. } => {
                let at_ns = seen_ns.map_or(at_ns, |seen_ns| seen_ns.min(at_ns));
                self.point(Of::Guest, at_ns, Tone::Plain, format!("removal seen: {}", text(by)));
            }
            Kind::RemovalFinished { at_ns: ended_ns, .. } => {
                let at_ns = ended_ns.map_or(at_ns, |ended_ns| ended_ns.min(at_ns));
                self.point(Of::Guest, at_ns, Tone::Plain, "removal finished".into());
            }
            Kind::Uevent { action, devpath, .. } => {
                let device = devpath.rsplit('/').next().unwrap_or_default();
                self.point(Of::Guest, at_ns, Tone::Plain, format!("uevent {} {}", text(action), text(device)));
            }
            Kind::TasksListed { tasks, .. } => {
                self.point(Of::Guest, at_ns, Tone::Plain, format!("{tasks} tasks listed"));
            }
            Kind::Splat { title } => self.point(Of::Guest, at_ns, Tone::Bad, text(title)),
            Kind::HammerStarted { hammer, threads, .. } => self.hammer(at_ns, hammer, *threads),
            // Those that hang have not ended: their bar stays open.
            Kind::HammerReported { hammer, hanging: 0, .. } => {
                let open = self.hammers.remove(hammer);
                self.end(at_ns, open);
            }
            Kind::ProgramAsked { program, .. } => {
                let (row, words) = (self.row(program), format!("program {}", text(program)));
                self.programs.insert(program.clone(), bar(Of::Hammers, None, at_ns, row, words));
            }
            Kind::ProgramEnded { program, .. } => {
                let open = self.programs.remove(program);
                self.end(at_ns, open);
            }
            Kind::Trace { trace } => self.trace(at_ns, trace),
            _ => {}
        }
    }

    fn hammer(&mut self, at_ns: u64, hammer: &str, threads: u32) {
        let row = self.row(hammer);
        let threads = if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
        let open = bar(Of::Hammers, None, at_ns, row, format!("{}: {threads}", text(hammer)));
        self.hammers.insert(hammer.to_owned(), open);
    }

    /// One row each, whenever it runs.
    fn row(&mut self, name: &str) -> usize {
        let known = self.rows.iter().position(|known| known == name);
        known
            .unwrap_or_else(|| {
                self.rows.push(name.to_owned());
                self.rows.len() - 1
            })
            .min(MOST_ROWS - 1)
    }

    fn end(&mut self, at_ns: u64, open: Option<OpenBar>) {
        let Some(OpenBar { track, mut mark, .. }) = open else { return };
        // A clock that ran backwards in what the guest told.
        mark.extent = Extent::Until(at_ns.max(mark.at_ns));
        mark.tone = Tone::Plain;
        push(&mut self.tracks, track, mark);
    }

    fn trace(&mut self, at_ns: u64, event: &TraceEvent) {
        let Some(probe) = probe(&event.name) else { return };
        match probe.role {
            Role::Begin(span) => self.begin_span(at_ns, span, event),
            Role::End(span) => {
                let open = self.tasks.get_mut(&event.pid).and_then(|open| {
                    let place = open.iter().rposition(|bar| bar.span == Some(span))?;
                    // Those inside whose ends were lost end here too.
                    Some(open.split_off(place))
                });
                for bar in open.into_iter().flatten() {
                    self.end(at_ns, Some(bar));
                }
            }
            Role::GracePeriodMode => {
                let mode = match event.field("do_norm") {
                    Some("0") => GracePeriodMode::Expedited,
                    Some("1") => GracePeriodMode::Ordinary,
                    _ => return,
                };
                let innermost = self.tasks.get_mut(&event.pid).and_then(|open| open.last_mut());
                if let Some(bar) = innermost.filter(|bar| bar.span == Some(Span::GracePeriod)) {
                    let mode = if mode == GracePeriodMode::Expedited { "expedited" } else { "ordinary" };
                    bar.mark.text = format!("{}, {mode}", bar.mark.text);
                }
            }
            _ => {}
        }
    }

    fn begin_span(&mut self, at_ns: u64, span: Span, event: &TraceEvent) {
        if self.tasks.len() >= MOST_TASKS && !self.tasks.contains_key(&event.pid) {
            return;
        }
        let open = self.tasks.entry(event.pid).or_default();
        if open.len() >= MOST_DEPTH {
            return;
        }
        let caller = event.caller().map(|caller| format!(" by {caller}")).unwrap_or_default();
        let (track, words) = match span {
            Span::GracePeriod => (Of::GracePeriods, format!("synchronize_srcu{caller}")),
            span => (Of::Removal, span.describe().to_owned()),
        };
        // Below what it is inside of; grace periods have a track of their own, where those of other tasks are above.
        let inside = open.iter().filter(|bar| bar.track == track).count();
        let others = self.tasks.iter().filter(|(pid, _)| **pid != event.pid).flat_map(|(_, open)| open);
        let taken = others.filter(|bar| bar.track == track).map(|bar| bar.mark.row + 1).max().unwrap_or(0);
        let row = (taken + inside).min(MOST_ROWS - 1);
        if let Some(open) = self.tasks.get_mut(&event.pid) {
            open.push(bar(track, Some(span), at_ns, row, text(&words)));
        }
    }
}

/// A bar that is to be closed, or stays open.
fn bar(track: Of, span: Option<Span>, at_ns: u64, row: usize, text: String) -> OpenBar {
    // What stays open did not end. A hammer that runs is at work; that it hangs is told by the finding.
    let tone = if span.is_some() { Tone::Bad } else { Tone::Plain };
    OpenBar { track, span, mark: Mark { at_ns, extent: Extent::Open, row, text, tone } }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::window::of_reader;
    use super::*;
    use crate::report::sample;

    fn told(strip: &Strip) -> String {
        let mut lines = vec![format!("zero: {}", strip.zero.what)];
        for track in &strip.tracks {
            lines.push(format!("{}:", track.name));
            for mark in &track.marks {
                let ms = |ns: u64| (ns as i64 - strip.zero.at_ns as i64) / 1_000_000;
                let until = match mark.extent {
                    Extent::Point => String::new(),
                    Extent::Until(end) => format!(" to {}", ms(end)),
                    Extent::Open => " to the end".into(),
                };
                lines.push(format!("  {}{until} ms, row {}: {} {:?}", ms(mark.at_ns), mark.row, mark.text, mark.tone));
            }
        }
        lines.push(format!("{} left out", strip.left_out));
        lines.join("\n")
    }

    #[test]
    fn a_removal_that_hangs() {
        let windows = of_reader(sample::EVENTS.as_bytes(), &[sample::HANG], Window::clone).unwrap();
        insta::assert_snapshot!(told(&strip(windows[0].as_ref().unwrap()).unwrap()));
    }

    #[test]
    fn a_flood_is_bounded() {
        let line = "{\"t_ns\":5000,\"source\":\"host\",\"event\":\"slot\",\"slot\":0,\"what\":\"interrupt\"}\n";
        let found =
            "{\"t_ns\":6000,\"source\":\"host\",\"event\":\"found\",\"cycle\":0,\"kind\":\"splat\",\"title\":\"a\"}\n";
        let windows = of_reader(format!("{}{found}", line.repeat(3000)).as_bytes(), &["a"], Window::clone).unwrap();
        let strip = strip(windows[0].as_ref().unwrap()).unwrap();
        assert_eq!(strip.left_out, 3000 - MOST_MARKS);
        assert!(strip.tracks.iter().all(|track| track.marks.len() <= MOST_MARKS));
    }

    proptest! {
        #[test]
        fn whatever_a_guest_traces_is_drawn_within_bounds(
            events in prop::collection::vec((0u64..1000, 0u64..2000, 0usize..30, 0u32..5), 0..200),
        ) {
            let names: Vec<&str> = plugstorm_observe::trace::probes().iter().map(|probe| probe.name).collect();
            let events: Vec<Event> = events.into_iter().map(|(t_ns, guest, name, pid)| {
                let trace = TraceEvent {
                    task: "t".into(), pid, cpu: 0, clock_ticks: 0, name: names[name % names.len()].into(),
                    function: None, returned_to: None, fields: vec![("do_norm".into(), "0".into())],
                };
                let kind = EventKind::Trace { trace };
                Event { t_ns, source: crate::results::Source::Guest, guest_t_ns: Some(guest), kind }
            }).collect();
            let found = events.len().saturating_sub(1);
            if let Some(strip) = strip(&Window { events, found }) {
                for mark in strip.tracks.iter().flat_map(|track| &track.marks) {
                    prop_assert!(mark.row < MOST_ROWS && mark.at_ns >= strip.begin_ns);
                    prop_assert!(mark.end_ns(strip.end_ns) <= strip.end_ns);
                }
            }
        }
    }
}
