//! `events.jsonl`, read back. What is in it came from a guest, and a killed run may have left any end: no line stops the reading,
//! and none takes more memory than a bound.

use std::io::{self, BufRead, Read};

use crate::results::{Event, Source};

/// A longer line is none of ours: the largest texts of an event are cut at 16 KiB.
const MOST_LINE_BYTES: u64 = 1 << 20;
/// No run is ten years long.
const LATEST_NS: u64 = 10 * 366 * 86_400 * 1_000_000_000;

/// By which clock something is placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    /// The host did it, then.
    Host,
    /// The guest's own time of it, on the host's scale.
    Guest,
    /// The guest told no time: when the host learnt of it.
    Heard,
}

impl Clock {
    /// As it is called in the trace.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Guest => "guest",
            Self::Heard => "host, when it learnt of it",
        }
    }
}

/// An event, and when it happened.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Timed {
    /// Nanoseconds since the run's start.
    pub(super) at_ns: u64,
    /// By which clock.
    pub(super) clock: Clock,
    /// Bytes of its line.
    pub(super) size: usize,
    pub(super) event: Event,
}

impl Timed {
    fn new(event: Event, size: usize) -> Self {
        // The guest's word counts where it can be so: nothing is heard of before it happens.
        let told = event.guest_t_ns.filter(|ns| *ns <= event.t_ns);
        let (at_ns, clock) = match (told, event.source) {
            (Some(ns), _) => (ns, Clock::Guest),
            (None, Source::Host) => (event.t_ns, Clock::Host),
            (None, Source::Guest) => (event.t_ns, Clock::Heard),
        };
        Self { at_ns, clock, size, event }
    }
}

/// Reads events line by line.
#[derive(Debug)]
pub(super) struct Reader<R> {
    input: R,
    line: Vec<u8>,
    /// Lines that are no events.
    skipped: u64,
}

impl<R: BufRead> Reader<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, line: Vec::new(), skipped: 0 }
    }

    /// Lines so far that were no events: cut short, too long, or of another version.
    pub(super) fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The next event; nothing at the end of the file.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn next(&mut self) -> io::Result<Option<Timed>> {
        loop {
            self.line.clear();
            let read = (&mut self.input).take(MOST_LINE_BYTES).read_until(b'\n', &mut self.line)?;
            if read == 0 {
                return Ok(None);
            }
            let is_whole = self.line.last() == Some(&b'\n') || (read as u64) < MOST_LINE_BYTES;
            if !is_whole {
                self.input.skip_until(b'\n')?;
            }
            let event =
                Some(&self.line).filter(|_| is_whole).and_then(|line| serde_json::from_slice::<Event>(line).ok());
            match event.filter(|event| event.t_ns <= LATEST_NS) {
                Some(event) => return Ok(Some(Timed::new(event, read))),
                None => self.skipped = self.skipped.saturating_add(1),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(input: &[u8]) -> (Vec<(u64, Clock)>, u64) {
        let mut reader = Reader::new(input);
        let events = std::iter::from_fn(|| reader.next().unwrap()).map(|timed| (timed.at_ns, timed.clock)).collect();
        (events, reader.skipped())
    }

    #[test]
    fn the_guests_time_counts_where_it_can_be_so() {
        let input = br#"{"t_ns":50,"source":"host","event":"cycle_began","cycle":7}
{"t_ns":60,"source":"guest","guest_t_ns":40,"event":"note","text":"x"}
{"t_ns":60,"source":"guest","guest_t_ns":61,"event":"note","text":"from the future"}
{"t_ns":70,"source":"guest","event":"splat","title":"BUG"}
"#;
        let expected = vec![(50, Clock::Host), (40, Clock::Guest), (60, Clock::Heard), (70, Clock::Heard)];
        assert_eq!(read(input), (expected, 0));
    }

    #[test]
    fn lines_that_are_no_events_are_counted() {
        let long =
            format!("{{\"t_ns\":1,\"source\":\"guest\",\"event\":\"note\",\"text\":\"{}\"}}\n", "x".repeat(2 << 20));
        let input = format!(
            "{long}garbage\n\n{{\"t_ns\":18446744073709551615,\"source\":\"host\",\"event\":\"cycle_began\",\"cycle\":1}}\n\
             {{\"t_ns\":1,\"source\":\"host\",\"event\":\"of_tomorrow\"}}\n\
             {{\"t_ns\":2,\"source\":\"host\",\"event\":\"cycle_began\",\"cycle\":1}}\n{{\"t_ns\":3,\"sou"
        );
        assert_eq!(read(input.as_bytes()), (vec![(2, Clock::Host)], 6));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = read(&bytes);
        }
    }
}
