//! What the states of all parts have in common: why one is refused, and bytes as text.
//!
//! The state of a part is plain data that serde writes and reads: what the guest did to the part and what it owes the
//! guest, and nothing that follows from the rest or from how the part was made. A snapshot comes from a file, so it is
//! checked like a guest's bytes: a part made from a state keeps the promises of one that got there by itself, or there is
//! no part but a [`StateError`].

use thiserror::Error;

/// A snapshot of another machine, or one that was changed since.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the snapshot's {what} does not fit this machine: {reason}")]
pub struct StateError {
    /// The part, such as `console`.
    pub what: &'static str,
    /// What was found, and what could be.
    pub reason: String,
}

impl StateError {
    /// An error of one part.
    #[must_use]
    pub fn new(what: &'static str, reason: impl Into<String>) -> Self {
        Self { what, reason: reason.into() }
    }
}

/// Bytes as a string of hexadecimal digits, for `#[serde(with = "hex")]`: a list of numbers would be twice as long.
pub(crate) mod hex {
    use std::fmt::Write;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &impl AsRef<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::new();
        for byte in bytes.as_ref() {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        serializer.serialize_str(&text)
    }

    /// Refuses what is no pair of digits, and any length that is not that of the type.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: TryFrom<Vec<u8>>>(deserializer: D) -> Result<T, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
        let digits = digits.ok_or_else(|| D::Error::custom("bytes are hexadecimal digits and nothing else"))?;
        let mut bytes = Vec::with_capacity(digits.len() / 2);
        for pair in digits.chunks(2) {
            let &[high, low] = pair else { return Err(D::Error::custom("a byte has two hexadecimal digits")) };
            bytes.extend(u8::try_from(high << 4 | low));
        }
        let length = bytes.len();
        T::try_from(bytes).map_err(|_| D::Error::custom(format!("these cannot be {length} bytes")))
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Bytes {
        #[serde(with = "super::hex")]
        list: Vec<u8>,
        #[serde(with = "super::hex")]
        two: [u8; 2],
    }

    #[test]
    fn bytes_are_hexadecimal_digits() {
        let bytes = Bytes { list: vec![0, 0x1f, 0xff], two: [0xab, 0xcd] };
        let text = serde_json::to_string(&bytes).unwrap();
        assert_eq!(text, r#"{"list":"001fff","two":"abcd"}"#);
        assert_eq!(serde_json::from_str::<Bytes>(&text).unwrap(), bytes);
        let empty: Bytes = serde_json::from_str(r#"{"list":"","two":"ABcd"}"#).unwrap();
        assert_eq!(empty, Bytes { list: Vec::new(), two: [0xab, 0xcd] });
    }

    #[test]
    fn what_is_no_bytes_is_refused() {
        for (list, two) in [("0", "abcd"), ("0g", "abcd"), ("+1", "abcd"), ("é", "abcd"), ("", "ab"), ("", "abcdef")] {
            assert!(serde_json::from_str::<Bytes>(&format!(r#"{{"list":"{list}","two":"{two}"}}"#)).is_err());
        }
    }
}
