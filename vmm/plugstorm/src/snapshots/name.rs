//! What a snapshot may be called, and what its name tells.

use std::fmt;

use serde::Serialize;

use super::{SnapshotError, digest};

/// How the names of automatic ones begin.
const AUTOMATIC: &str = "auto-";
/// The longest name.
const MOST_CHARACTERS: usize = 64;

/// Who made a snapshot. Its name says so: only automatic ones begin with `auto-`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A storm, by itself: it is made anew where it is missing, and pruned where there are too many.
    Storm,
    /// A user, who alone removes it.
    User,
}

impl Kind {
    /// By the name.
    #[must_use]
    pub fn of(name: &str) -> Self {
        if name.starts_with(AUTOMATIC) { Self::Storm } else { Self::User }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Storm => "storm",
            Self::User => "user",
        })
    }
}

/// The name of an automatic one.
pub(super) fn automatic(digest: &str) -> String {
    format!("{AUTOMATIC}{digest}")
}

/// May a user give this name to a snapshot?
///
/// # Errors
/// One sentence.
pub fn check_name(name: &str) -> Result<(), SnapshotError> {
    check(name)?;
    match Kind::of(name) {
        Kind::User => Ok(()),
        Kind::Storm => Err(SnapshotError::Reserved { name: name.to_owned() }),
    }
}

/// Can a snapshot have this name? What passes is one plain component of a path.
pub(super) fn check(name: &str) -> Result<(), SnapshotError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_key = |rest: &str| rest.len() == digest::DIGITS && rest.bytes().all(|byte| byte.is_ascii_hexdigit());
    let fits = (1..=MOST_CHARACTERS).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with('.');
    if fits && name.strip_prefix(AUTOMATIC).is_none_or(is_key) {
        return Ok(());
    }
    Err(SnapshotError::Name { name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        let longest = "x".repeat(MOST_CHARACTERS);
        for name in ["a", "booted", "6.12_two-cpus", "auto", "x..y", longest.as_str()] {
            check_name(name).unwrap();
            assert_eq!(Kind::of(name), Kind::User);
        }
        let long = longest.clone() + "x";
        for name in ["", ".", "..", ".draft-x", "a/b", "/a", "a b", "a\n", "a\0", "ä", "../a", long.as_str()] {
            let error = check_name(name).unwrap_err().to_string();
            assert!(error.contains("64"), "{error}");
            assert!(check(name).is_err());
        }
    }

    #[test]
    fn automatic_names_are_not_for_users() {
        let key = automatic(&"0a".repeat(16));
        check(&key).unwrap();
        assert_eq!(Kind::of(&key), Kind::Storm);
        assert!(matches!(check_name(&key), Err(SnapshotError::Reserved { .. })));
        for name in ["auto-", "auto-mine", "auto-../../../../../../../../../../.."] {
            assert!(check_name(name).is_err() && check(name).is_err(), "{name}");
        }
    }
}
