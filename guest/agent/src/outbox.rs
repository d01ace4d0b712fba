//! What waits to be written to the port, within bounds.

use std::collections::VecDeque;

use plugstorm_wire::{FromGuest, MAX_LINE_BYTES, encode};

/// Bytes of trace that may wait. Beyond, the oldest lines go and are counted.
const TRACE_LIMIT_BYTES: usize = 8 << 20;

/// Bytes of all other messages that may wait: what a host that reads nothing may cost a small guest.
const MESSAGE_LIMIT_BYTES: usize = 8 << 20;

/// Trace lines go out in messages of about this size: small enough to be dropped one at a time.
const TRACE_MESSAGE_BYTES: usize = 32 << 10;

#[derive(Debug)]
struct Item {
    bytes: Vec<u8>,
    /// For trace: the lines in it, and those it tells of as lost; all of them are lost if it is dropped.
    trace_lines: Option<u64>,
}

/// Messages in order, and how far the first of them has been written.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    items: VecDeque<Item>,
    written_of_first: usize,
    trace_bytes: usize,
    message_bytes: usize,
    lost_lines: u64,
}

impl Outbox {
    /// Appends a message.
    ///
    /// # Errors
    /// A sentence, if the message had to be dropped: it is too long for the wire, or too many wait.
    pub(crate) fn push(&mut self, message: &FromGuest) -> Result<(), String> {
        let bytes = encode(message).map_err(|error| format!("a message could not be encoded: {error}"))?;
        if bytes.len() > MAX_LINE_BYTES {
            return Err(format!("a message of {} bytes was dropped: the wire takes {MAX_LINE_BYTES}", bytes.len()));
        }
        if self.message_bytes + bytes.len() > MESSAGE_LIMIT_BYTES {
            return Err(format!("a message was dropped: {MESSAGE_LIMIT_BYTES} bytes wait for the host to read them"));
        }
        self.message_bytes += bytes.len();
        self.items.push_back(Item { bytes, trace_lines: None });
        Ok(())
    }

    /// Appends lines of the trace; `lost` is how many the kernel threw away before them.
    pub(crate) fn push_trace(&mut self, lines: Vec<String>, lost: u64) {
        self.lost_lines = self.lost_lines.saturating_add(lost);
        let mut chunk = Vec::new();
        let mut chunk_bytes = 0_usize;
        for line in lines {
            chunk_bytes = chunk_bytes.saturating_add(line.len());
            chunk.push(line);
            if chunk_bytes >= TRACE_MESSAGE_BYTES {
                self.push_trace_message(std::mem::take(&mut chunk));
                chunk_bytes = 0;
            }
        }
        if !chunk.is_empty() {
            self.push_trace_message(chunk);
        }
    }

    /// Tells of lines lost that no later line has told of.
    pub(crate) fn settle_trace(&mut self) {
        if self.lost_lines > 0 {
            self.push_trace_message(Vec::new());
        }
    }

    fn push_trace_message(&mut self, lines: Vec<String>) {
        let lost = std::mem::take(&mut self.lost_lines);
        let count = lost.saturating_add(lines.len() as u64);
        let message = FromGuest::Trace { lines, lost };
        match encode(&message) {
            Ok(bytes) if bytes.len() <= MAX_LINE_BYTES => {
                self.trace_bytes += bytes.len();
                self.items.push_back(Item { bytes, trace_lines: Some(count) });
            }
            // Only a trace line of a quarter of a megabyte gets here.
            _ => self.lost_lines = self.lost_lines.saturating_add(count),
        }
        while self.trace_bytes > TRACE_LIMIT_BYTES && self.drop_oldest_trace() {}
    }

    /// Drops the oldest trace message of which nothing has been written; false if there is none.
    fn drop_oldest_trace(&mut self) -> bool {
        let begun = usize::from(self.written_of_first > 0);
        let Some(index) = self.items.iter().skip(begun).position(|item| item.trace_lines.is_some()) else {
            return false;
        };
        if let Some(item) = self.items.remove(begun + index) {
            self.trace_bytes = self.trace_bytes.saturating_sub(item.bytes.len());
            self.lost_lines = self.lost_lines.saturating_add(item.trace_lines.unwrap_or(0));
        }
        true
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The bytes to write next; empty if nothing waits.
    pub(crate) fn next_bytes(&self) -> &[u8] {
        self.items.front().and_then(|item| item.bytes.get(self.written_of_first..)).unwrap_or_default()
    }

    /// Takes note that `count` of [`Self::next_bytes`] have been written.
    pub(crate) fn written(&mut self, count: usize) {
        self.written_of_first = self.written_of_first.saturating_add(count);
        let done = self.items.front().is_some_and(|item| self.written_of_first >= item.bytes.len());
        if done && let Some(item) = self.items.pop_front() {
            self.written_of_first = 0;
            let waiting = if item.trace_lines.is_some() { &mut self.trace_bytes } else { &mut self.message_bytes };
            *waiting = waiting.saturating_sub(item.bytes.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugstorm_wire::{Line, LineReader};

    fn drain(outbox: &mut Outbox) -> Vec<FromGuest> {
        let mut reader = LineReader::new();
        let mut messages = Vec::new();
        while !outbox.is_empty() {
            let count = outbox.next_bytes().len().min(1000);
            reader.push(&outbox.next_bytes()[..count], |line| match line {
                Line::Message(message) => messages.push(message),
                Line::Malformed { reason, .. } => panic!("{reason}"),
            });
            outbox.written(count);
        }
        messages
    }

    fn note(tsc: u64) -> FromGuest {
        FromGuest::Note { tsc, text: "n".into() }
    }

    #[test]
    fn messages_keep_their_order() {
        let mut outbox = Outbox::default();
        outbox.push(&note(1)).unwrap();
        outbox.push_trace(vec!["a".into(), "b".into()], 3);
        outbox.push(&note(2)).unwrap();
        let trace = FromGuest::Trace { lines: vec!["a".into(), "b".into()], lost: 3 };
        assert_eq!(drain(&mut outbox), [note(1), trace, note(2)]);
    }

    #[test]
    fn the_oldest_trace_goes_and_is_counted_and_messages_stay() {
        let mut outbox = Outbox::default();
        outbox.push(&note(1)).unwrap();
        let line = "x".repeat(1000);
        let pushed = 20_000_u64;
        for _ in 0..pushed / 100 {
            outbox.push_trace(vec![line.clone(); 100], 0);
            assert!(outbox.trace_bytes <= TRACE_LIMIT_BYTES);
        }
        outbox.push(&note(2)).unwrap();
        outbox.settle_trace();
        let messages = drain(&mut outbox);
        let (mut kept, mut lost) = (0_u64, 0);
        for message in &messages {
            if let FromGuest::Trace { lines, lost: more } = message {
                kept += lines.len() as u64;
                lost += more;
            }
        }
        assert_eq!(kept + lost, pushed);
        assert!(lost > 0);
        assert!(messages.contains(&note(1)) && messages.contains(&note(2)));
        assert_eq!((outbox.trace_bytes, outbox.message_bytes), (0, 0));
    }

    #[test]
    fn a_message_that_is_half_written_is_not_dropped() {
        let mut outbox = Outbox::default();
        outbox.push_trace(vec!["first".into()], 0);
        outbox.written(3);
        assert!(!outbox.drop_oldest_trace());
        outbox.push_trace(vec!["second".into()], 0);
        assert!(outbox.drop_oldest_trace());
        assert_eq!(outbox.items.len(), 1);
    }

    #[test]
    fn messages_have_a_limit_too() {
        let mut outbox = Outbox::default();
        let long = FromGuest::Note { tsc: 0, text: "x".repeat(200_000) };
        let refused = (0..100).filter(|_| outbox.push(&long).is_err()).count();
        assert!(refused > 50 && outbox.message_bytes <= MESSAGE_LIMIT_BYTES);
        let too_long = FromGuest::Note { tsc: 0, text: "x".repeat(MAX_LINE_BYTES) };
        assert!(outbox.push(&too_long).unwrap_err().contains("the wire takes"));
    }
}
