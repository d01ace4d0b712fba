//! What goes over the virtio-serial port between us and the nested host's PID 1: frames, in both directions.
//!
//! A frame is a kind (1 byte), a job (4 bytes), a length (4 bytes), both little-endian, and that many bytes. One port
//! for all keeps the order of a job's output and its end.

/// The longest payload.
pub(super) const MAX_PAYLOAD_BYTES: usize = 1 << 16;
const HEADER_BYTES: usize = 9;

/// What a frame means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// To a job: bytes for its standard input.
    Stdin = 1,
    /// To a job: its standard input has ended.
    StdinEnd = 2,
    /// To a job: a signal. Payload: its number, 4 bytes.
    Signal = 3,
    /// From PID 1: it runs.
    Ready = 16,
    /// From a job: standard output.
    Stdout = 17,
    /// From a job: standard error.
    Stderr = 18,
    /// A job has ended. Payload: the exit code, 4 bytes.
    Ended = 19,
    /// From PID 1: nothing will run, and why.
    Refused = 20,
    /// From PID 1: all jobs have ended and it powers off.
    Done = 21,
    /// From PID 1, every few seconds: it is alive.
    Alive = 22,
    /// A job is begun.
    Began = 23,
}

const KINDS: [Kind; 11] = [
    Kind::Stdin,
    Kind::StdinEnd,
    Kind::Signal,
    Kind::Ready,
    Kind::Stdout,
    Kind::Stderr,
    Kind::Ended,
    Kind::Refused,
    Kind::Done,
    Kind::Alive,
    Kind::Began,
];

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) job: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    pub(super) fn new(kind: Kind, job: u32, payload: &[u8]) -> Self {
        Self { kind, job, payload: payload.to_vec() }
    }

    /// A frame that carries a number.
    pub(super) fn with_number(kind: Kind, job: u32, number: i32) -> Self {
        Self::new(kind, job, &number.to_le_bytes())
    }

    /// The number it carries.
    pub(super) fn number(&self) -> Option<i32> {
        Some(i32::from_le_bytes(self.payload.get(..4)?.try_into().ok()?))
    }

    /// The payload as text.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    /// As it goes over the port. What is longer than a payload may be is cut.
    pub(super) fn encode(&self) -> Vec<u8> {
        let payload = self.payload.get(..self.payload.len().min(MAX_PAYLOAD_BYTES)).unwrap_or_default();
        let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
        bytes.push(self.kind as u8);
        bytes.extend(self.job.to_le_bytes());
        bytes.extend((payload.len() as u32).to_le_bytes());
        bytes.extend(payload);
        bytes
    }
}

/// The stream is no frames, so nothing after it can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Garbled;

/// Cuts a byte stream into frames.
#[derive(Debug, Default)]
pub(super) struct FrameReader {
    pending: Vec<u8>,
}

impl FrameReader {
    /// Takes the next bytes, and hands each complete frame to `sink`.
    pub(super) fn push(&mut self, bytes: &[u8], mut sink: impl FnMut(Frame)) -> Result<(), Garbled> {
        self.pending.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(header) = self.pending.get(at..at + HEADER_BYTES) {
            let &[kind, j0, j1, j2, j3, l0, l1, l2, l3] = header else { return Err(Garbled) };
            let kind = *KINDS.iter().find(|known| **known as u8 == kind).ok_or(Garbled)?;
            let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
            if length > MAX_PAYLOAD_BYTES {
                return Err(Garbled);
            }
            let start = at + HEADER_BYTES;
            let Some(payload) = self.pending.get(start..start + length) else { break };
            sink(Frame { kind, job: u32::from_le_bytes([j0, j1, j2, j3]), payload: payload.to_vec() });
            at = start + length;
        }
        self.pending.drain(..at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_survive_any_cut() {
        let sent = [
            Frame::new(Kind::Stdout, 7, b"hello\n"),
            Frame::new(Kind::Alive, 0, b""),
            Frame::with_number(Kind::Ended, 7, -3),
        ];
        let bytes: Vec<u8> = sent.iter().flat_map(Frame::encode).collect();
        for cut in 0..=bytes.len() {
            let mut reader = FrameReader::default();
            let mut seen = Vec::new();
            reader.push(&bytes[..cut], |frame| seen.push(frame)).unwrap();
            reader.push(&bytes[cut..], |frame| seen.push(frame)).unwrap();
            assert_eq!(seen, sent, "cut at {cut}");
        }
        assert_eq!(sent[2].number(), Some(-3));
        assert_eq!(sent[1].number(), None);
    }

    #[test]
    fn every_kind_is_known() {
        for kind in KINDS {
            let mut seen = Vec::new();
            FrameReader::default().push(&Frame::new(kind, 1, b"x").encode(), |frame| seen.push(frame.kind)).unwrap();
            assert_eq!(seen, [kind]);
        }
    }

    proptest! {
        #[test]
        fn rubbish_is_refused_or_waited_for_within_bounds(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 0..32)
        ) {
            let mut reader = FrameReader::default();
            for chunk in &chunks {
                if reader.push(chunk, |_| ()).is_err() {
                    return Ok(());
                }
                prop_assert!(reader.pending.len() <= MAX_PAYLOAD_BYTES + HEADER_BYTES + 64);
            }
        }
    }
}
