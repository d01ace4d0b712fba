//! Protocol buffers, as far as a trace needs them: messages that are written and never read.
//!
//! The encoding is protobuf.dev's "Encoding": a field is its number and wire type as a varint, then its value.

/// Wire type of integers, booleans and enums.
const VARINT: u32 = 0;
/// Wire type of `fixed64`.
const FIXED_64: u32 = 1;
/// Wire type of strings and messages.
const LENGTH_DELIMITED: u32 = 2;

/// A message being written.
#[derive(Debug, Default)]
pub(super) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// An integer that is not negative, a boolean or an enum.
    pub(super) fn number(&mut self, field: u32, value: u64) -> &mut Self {
        self.tag(field, VARINT);
        self.varint(value);
        self
    }

    /// A `fixed64`.
    pub(super) fn fixed(&mut self, field: u32, value: u64) -> &mut Self {
        self.tag(field, FIXED_64);
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// A string.
    pub(super) fn text(&mut self, field: u32, value: &str) -> &mut Self {
        self.delimited(field, value.as_bytes())
    }

    /// A message within this one.
    pub(super) fn message(&mut self, field: u32, value: &Self) -> &mut Self {
        self.delimited(field, &value.bytes)
    }

    /// What has been written.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn delimited(&mut self, field: u32, value: &[u8]) -> &mut Self {
        self.tag(field, LENGTH_DELIMITED);
        self.varint(value.len() as u64);
        self.bytes.extend_from_slice(value);
        self
    }

    fn tag(&mut self, field: u32, wire_type: u32) {
        self.varint(u64::from(field << 3 | wire_type));
    }

    fn varint(&mut self, mut value: u64) {
        loop {
            let low = value.to_le_bytes()[0] & 0x7f;
            value >>= 7;
            if value == 0 {
                self.bytes.push(low);
                return;
            }
            self.bytes.push(low | 0x80);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads a varint back.
    fn varint(bytes: &[u8]) -> (u64, usize) {
        let mut value = 0;
        for (index, byte) in bytes.iter().enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return (value, index + 1);
            }
        }
        panic!("unfinished");
    }

    #[test]
    fn fields_are_encoded_as_the_specification_shows() {
        let mut inner = Message::default();
        inner.number(1, 150);
        assert_eq!(inner.bytes(), [0x08, 0x96, 0x01]);
        let mut outer = Message::default();
        outer.text(2, "testing").message(3, &inner).fixed(4, 1);
        let expected = b"\x12\x07testing\x1a\x03\x08\x96\x01\x21\x01\0\0\0\0\0\0\0";
        assert_eq!(outer.bytes(), expected);
    }

    proptest! {
        #[test]
        fn numbers_survive(field in 1_u32..(1 << 29), value: u64) {
            let mut message = Message::default();
            message.number(field, value);
            let (tag, head) = varint(message.bytes());
            prop_assert_eq!(tag, u64::from(field) << 3);
            let (read, tail) = varint(&message.bytes()[head..]);
            prop_assert_eq!(read, value);
            prop_assert_eq!(head + tail, message.bytes().len());
        }
    }
}
