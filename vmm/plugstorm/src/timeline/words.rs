//! What a guest said, as words in a trace.

use plugstorm_wire::OperationCount;

use crate::scenario::operation_name;

/// A guest's words, short and without control characters.
pub(super) fn shortened(words: &str, most: usize) -> String {
    let end = (0..=most.min(words.len())).rev().find(|end| words.is_char_boundary(*end)).unwrap_or(0);
    let (kept, rest) = words.split_at(end);
    let mut kept: String = kept.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if !rest.is_empty() {
        kept.push('…');
    }
    kept
}

/// Calls of a hammer, and how they ended.
pub(super) fn operation_words(count: &OperationCount) -> String {
    let mut words = format!("{} {}: {} ok", operation_name(count.operation), count.calls, count.succeeded);
    for error in &count.errors {
        words.push_str(&format!(", {} {}", error.name, error.count));
    }
    for exit in &count.exits {
        words.push_str(&format!(", {} {}", exit.status, exit.count));
    }
    words.push_str(&format!(", longest {} ns", count.longest_ns));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guests_words_are_short_and_on_one_line() {
        assert_eq!(shortened("a\nb\u{1b}c", 10), "a b c");
        assert_eq!(shortened("ünüb", 4), "ün…");
        assert_eq!(shortened("", 4), "");
    }
}
