//! Digests against damage, not against malice: xxh3 of 128 bits, as 32 hexadecimal digits.

use std::io::{self, Read};

use twox_hash::XxHash3_128;

/// Its length as text.
pub(super) const DIGITS: usize = 32;

/// The digest of these bytes.
pub(crate) fn of(bytes: &[u8]) -> String {
    text(XxHash3_128::oneshot(bytes))
}

/// The digest of all that is left to read.
pub(super) fn of_reader(mut reader: impl Read) -> io::Result<String> {
    let mut hasher = XxHash3_128::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(text(hasher.finish_128())),
            Ok(length) => hasher.write(buffer.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The digest of several parts: what goes from the end of one to the start of the next changes it.
#[derive(Default)]
pub(crate) struct Parts(XxHash3_128);

impl Parts {
    pub(crate) fn part(&mut self, bytes: &[u8]) {
        // The length keeps it apart from the next.
        self.0.write(&(bytes.len() as u64).to_le_bytes());
        self.0.write(bytes);
    }

    pub(crate) fn digest(&self) -> String {
        text(self.0.finish_128())
    }
}

fn text(digest: u128) -> String {
    format!("{digest:0DIGITS$x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_xxh3_with_128_bits() {
        // XXH3_128bits of nothing, as xxhsum -H2 prints it (xxHash 0.8.0).
        assert_eq!(of(b""), "99aa06d3014798d86001c324468d497f");
    }

    #[test]
    fn a_stream_is_digested_as_its_bytes() {
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|index| (index % 251) as u8).collect();
        assert_eq!(of_reader(&bytes[..]).unwrap(), of(&bytes));
    }

    #[test]
    fn parts_are_kept_apart() {
        let digest = |parts: &[&str]| {
            let mut all = Parts::default();
            parts.iter().for_each(|part| all.part(part.as_bytes()));
            all.digest()
        };
        assert_eq!(digest(&["ab", "c"]).len(), DIGITS);
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
        assert_ne!(digest(&["ab"]), digest(&["ab", ""]));
    }
}
