//! The events around a finding, from a run's `events.jsonl`.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use crate::results::{EVENTS, Event, EventKind};

/// Events that are held while a finding is waited for. A cycle has some hundred.
const MOST_EVENTS: usize = 4096;
/// What their lines may come to: a guest may fill each with some kilobytes.
const MOST_BYTES: usize = 8 << 20;
/// Events after a finding that are still taken.
const MOST_AFTER: usize = 512;
/// A longer line is passed over: an event of the guest's agent has 64 KiB at most.
const MOST_LINE_BYTES: u64 = 1 << 20;

/// The events around a finding.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::report) struct Window {
    /// In the order in which the host took them.
    pub(in crate::report) events: Vec<Event>,
    /// Which of them says that something was found.
    pub(in crate::report) found: usize,
}

/// A finding whose window is still open.
struct Pending {
    place: usize,
    found: Event,
    after: usize,
}

/// The latest events, as many as are held.
#[derive(Debug, Default)]
struct Recent {
    /// With the lengths of their lines.
    events: VecDeque<(Event, usize)>,
    bytes: usize,
}

impl Recent {
    fn push(&mut self, event: Event, bytes: usize) {
        self.events.push_back((event, bytes));
        self.bytes += bytes;
        while self.events.len() > MOST_EVENTS || (self.bytes > MOST_BYTES && self.events.len() > 1) {
            self.bytes -= self.events.pop_front().map_or(0, |(_, bytes)| bytes);
        }
    }

    fn window(&self, found: &Event) -> Option<Window> {
        let events: Vec<Event> = self.events.iter().map(|(event, _)| event.clone()).collect();
        let found = events.iter().position(|event| event == found)?;
        Some(Window { events, found })
    }
}

/// Makes something of the windows around the first appearance of each of the titles, by their places: of one window after the
/// other, since each may be large.
///
/// # Errors
/// The file cannot be read.
pub(super) fn of_file<T>(folder: &Path, titles: &[&str], make: impl Fn(&Window) -> T) -> io::Result<Vec<Option<T>>> {
    of_reader(BufReader::new(File::open(folder.join(EVENTS))?), titles, make)
}

pub(super) fn of_reader<T>(
    mut reader: impl BufRead,
    titles: &[&str],
    make: impl Fn(&Window) -> T,
) -> io::Result<Vec<Option<T>>> {
    let mut windows: Vec<Option<T>> = titles.iter().map(|_| None).collect();
    let mut recent = Recent::default();
    let mut pending: Vec<Pending> = Vec::new();
    let mut line = Vec::new();
    while read_line(&mut reader, &mut line)? {
        // A cut line of a run that was killed, or of a later version.
        let Ok(event) = serde_json::from_slice::<Event>(&line) else { continue };
        if begins_anew(&event.kind) {
            close(&mut pending, &recent, &mut windows, &make, |_| true);
            recent = Recent::default();
        }
        for open in &mut pending {
            open.after += 1;
        }
        let title = match &event.kind {
            EventKind::Found { title, .. } => titles.iter().position(|wanted| wanted == title),
            _ => None,
        };
        let ends = matches!(event.kind, EventKind::GuestEnded { .. } | EventKind::RunEnded { .. });
        if let Some(place) = title
            && windows.get(place).is_some_and(Option::is_none)
            && pending.iter().all(|open| open.place != place)
        {
            pending.push(Pending { place, found: event.clone(), after: 0 });
        }
        recent.push(event, line.len());
        close(&mut pending, &recent, &mut windows, &make, |open| ends || open.after >= MOST_AFTER);
        if pending.is_empty() && windows.iter().all(Option::is_some) {
            break;
        }
    }
    close(&mut pending, &recent, &mut windows, &make, |_| true);
    Ok(windows)
}

/// What came before has nothing to do with what comes: another guest, or another cycle.
fn begins_anew(kind: &EventKind) -> bool {
    matches!(kind, EventKind::BootBegan { .. } | EventKind::ForkBegan { .. } | EventKind::CycleBegan { .. })
}

fn close<T>(
    pending: &mut Vec<Pending>,
    recent: &Recent,
    windows: &mut [Option<T>],
    make: impl Fn(&Window) -> T,
    is_over: impl Fn(&Pending) -> bool,
) {
    pending.retain(|open| {
        if !is_over(open) {
            return true;
        }
        if let (Some(window), Some(made)) = (recent.window(&open.found), windows.get_mut(open.place)) {
            *made = Some(make(&window));
        }
        false
    });
}

/// The next line without its end; one that is too long is empty. False at the end of the file.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let read = reader.by_ref().take(MOST_LINE_BYTES).read_until(b'\n', line)?;
    if read as u64 == MOST_LINE_BYTES && line.last() != Some(&b'\n') {
        line.clear();
        reader.skip_until(b'\n')?;
    }
    Ok(read > 0)
}

#[cfg(test)]
mod tests {
    use crate::results::{FindingKind, Source};

    use super::*;

    fn line(t_ns: u64, kind: EventKind) -> String {
        let event = Event { t_ns, source: Source::Host, guest_t_ns: None, kind };
        serde_json::to_string(&event).unwrap() + "\n"
    }

    fn found(t_ns: u64, title: &str) -> String {
        line(t_ns, EventKind::Found { cycle: 1, kind: FindingKind::Splat, title: title.into() })
    }

    fn pause(t_ns: u64) -> String {
        line(t_ns, EventKind::Pause { cycle: 1, ns: 1 })
    }

    fn times(text: &str, titles: &[&str]) -> Vec<Option<(Vec<u64>, usize)>> {
        let windows = of_reader(text.as_bytes(), titles, Window::clone).unwrap();
        let times = |window: Window| (window.events.iter().map(|event| event.t_ns).collect(), window.found);
        windows.into_iter().map(|window| window.map(times)).collect()
    }

    #[test]
    fn a_window_is_of_one_cycle_and_ends_with_its_guest() {
        let cycle = |t_ns, cycle| line(t_ns, EventKind::CycleBegan { cycle });
        let end = line(8, EventKind::GuestEnded { cause: "reset".into() });
        let text = [
            cycle(1, 0),
            pause(2),
            cycle(3, 1),
            pause(4),
            found(5, "a"),
            pause(6),
            found(7, "b"),
            end,
            pause(9),
            found(10, "a"),
        ];
        let text = text.concat();
        assert_eq!(
            times(&text, &["b", "c", "a"]),
            [Some((vec![3, 4, 5, 6, 7, 8], 4)), None, Some((vec![3, 4, 5, 6, 7, 8], 2))]
        );
    }

    #[test]
    fn a_file_may_be_cut_or_hold_anything() {
        let text = format!("{}garbage\n{{\"t_ns\":\n\n{}{{\"t_ns\":9,\"sou", pause(1), found(2, "a"));
        assert_eq!(times(&text, &["a"]), [Some((vec![1, 2], 1))]);
        assert_eq!(times("", &["a"]), [None]);
        let long = format!("{}{}\n{}", pause(1), "x".repeat(3 << 20), found(2, "a"));
        assert_eq!(times(&long, &["a"]), [Some((vec![1, 2], 1))]);
    }

    #[test]
    fn a_window_is_bounded_on_both_sides() {
        let many = |from: u64| (from..from + 10_000).map(pause).collect::<String>();
        let text = format!("{}{}{}", many(0), found(10_000, "a"), many(10_001));
        let window = of_reader(text.as_bytes(), &["a"], Window::clone).unwrap().remove(0).unwrap();
        assert_eq!(window.events.len(), MOST_EVENTS);
        assert_eq!(window.events.last().unwrap().t_ns, 10_000 + MOST_AFTER as u64);
        let note = |t_ns| line(t_ns, EventKind::Note { text: "x".repeat(16 << 10) });
        let text = format!("{}{}", (0..1000).map(note).collect::<String>(), found(1000, "a"));
        let window = of_reader(text.as_bytes(), &["a"], Window::clone).unwrap().remove(0).unwrap();
        assert!((500..512).contains(&window.events.len()), "{}", window.events.len());
    }
}
