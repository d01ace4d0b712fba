//! Lines in and out of a byte stream, within bounds.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::MAX_LINE_BYTES;

/// One message as it goes over the port: JSON and a line feed.
///
/// # Errors
/// Those of serde_json; the messages of this crate give none.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = serde_json::to_vec(message)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// What [`LineReader`] found.
#[derive(Debug)]
pub enum Line<T> {
    /// A message.
    Message(T),
    /// A line that is none, with the reason and its first bytes.
    Malformed {
        /// One sentence.
        reason: String,
        /// The first bytes of the line, made readable.
        excerpt: String,
    },
}

/// Cuts a byte stream into lines and reads each as a message.
///
/// Holds at most [`MAX_LINE_BYTES`] bytes whatever the other side sends.
#[derive(Debug, Default)]
pub struct LineReader {
    pending: Vec<u8>,
    dropping: bool,
}

impl LineReader {
    /// A reader at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the stream is between two lines.
    #[must_use]
    pub fn is_between_lines(&self) -> bool {
        self.pending.is_empty() && !self.dropping
    }

    /// Takes the next bytes of the stream and hands each complete line to `sink`.
    pub fn push<T: DeserializeOwned>(&mut self, bytes: &[u8], mut sink: impl FnMut(Line<T>)) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            let (head, tail) = rest.split_at(end);
            rest = tail.get(1..).unwrap_or_default();
            self.append(head, &mut sink);
            if !std::mem::take(&mut self.dropping) && !self.pending.is_empty() {
                sink(read(&self.pending));
            }
            self.pending.clear();
        }
        self.append(rest, &mut sink);
    }

    fn append<T>(&mut self, bytes: &[u8], sink: &mut impl FnMut(Line<T>)) {
        if self.dropping {
            return;
        }
        if self.pending.len() + bytes.len() > MAX_LINE_BYTES {
            self.dropping = true;
            sink(Line::Malformed {
                reason: format!("a line of more than {MAX_LINE_BYTES} bytes was dropped"),
                excerpt: excerpt(&self.pending),
            });
            self.pending.clear();
        } else {
            self.pending.extend_from_slice(bytes);
        }
    }
}

fn read<T: DeserializeOwned>(line: &[u8]) -> Line<T> {
    match serde_json::from_slice(line) {
        Ok(message) => Line::Message(message),
        Err(error) => {
            Line::Malformed { reason: format!("a line is no message of this version: {error}"), excerpt: excerpt(line) }
        }
    }
}

fn excerpt(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..bytes.len().min(120)).unwrap_or_default()).escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FromGuest, ToGuest};
    use proptest::prelude::*;

    fn read_all(chunks: &[&[u8]]) -> Vec<Line<FromGuest>> {
        let mut reader = LineReader::new();
        let mut lines = Vec::new();
        for chunk in chunks {
            reader.push(chunk, |line| lines.push(line));
        }
        lines
    }

    #[test]
    fn message_split_anywhere_is_read_once() {
        let note = FromGuest::Note { tsc: 7, text: "a\nb".into() };
        let bytes = encode(&note).unwrap();
        for cut in 0..bytes.len() {
            let lines = read_all(&[&bytes[..cut], &bytes[cut..]]);
            assert!(matches!(&lines[..], [Line::Message(read)] if *read == note), "cut at {cut}");
        }
    }

    #[test]
    fn a_line_too_long_is_dropped_and_the_next_is_read() {
        let mut bytes = vec![b'x'; MAX_LINE_BYTES + 1];
        bytes.push(b'\n');
        bytes.extend(encode(&FromGuest::Note { tsc: 1, text: "after".into() }).unwrap());
        let lines = read_all(&[&bytes]);
        assert!(matches!(&lines[..], [Line::Malformed { .. }, Line::Message(FromGuest::Note { .. })]));
    }

    #[test]
    fn a_malformed_line_says_why() {
        let lines = read_all(&[b"{\"from_guest\":\"hello\"}\n\n[]\n"]);
        assert!(matches!(&lines[..], [Line::Malformed { .. }, Line::Malformed { .. }]));
    }

    #[test]
    fn commands_survive_the_way() {
        let command = ToGuest::StopHammer { id: u64::MAX, hammer: "r".into(), grace_ms: 5 };
        let mut reader = LineReader::new();
        let mut seen = Vec::new();
        reader.push::<ToGuest>(&encode(&command).unwrap(), |line| seen.push(line));
        assert!(matches!(&seen[..], [Line::Message(read)] if *read == command));
    }

    #[test]
    fn numbers_beyond_those_of_javascript_survive_the_way() {
        for random in [(1 << 53) + 1, u64::MAX] {
            let begun =
                FromGuest::Begun { tsc: u64::MAX, calibration_ns: 1, random, problems: Vec::new(), points_error: None };
            let lines = read_all(&[&encode(&begun).unwrap()]);
            assert!(matches!(&lines[..], [Line::Message(read)] if *read == begun), "{random}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 0..64)) {
            let mut reader = LineReader::new();
            for chunk in &chunks {
                reader.push::<FromGuest>(chunk, |_| {});
                prop_assert!(reader.pending.len() <= MAX_LINE_BYTES);
            }
        }
    }
}
