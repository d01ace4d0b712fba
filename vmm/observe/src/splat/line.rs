//! Bytes to lines, and lines to what the kernel meant to print.

use memchr::{memchr, memchr_iter};

/// A longer line is cut. The kernel's own limit is `CONSOLE_EXT_LOG_MAX` and `PRINTKRB_RECORD_MAX`, 1 KiB; user programs
/// may write more.
pub(crate) const MAX_LINE_BYTES: usize = 4096;

/// Between the brackets of a time stamp: spaces, twelve digits before and after the point, and perhaps the caller.
const MAX_STAMP_BYTES: usize = 48;

/// Who printed a line, where the kernel says so (`CONFIG_PRINTK_CALLER`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Caller {
    /// A task: `[ T123]`.
    Task(u32),
    /// A CPU outside of any task: `[ C0]`.
    Cpu(u32),
}

/// A line as the kernel meant it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Counted from 0.
    pub(crate) number: u64,
    pub(crate) caller: Option<Caller>,
    /// It had a time stamp or a log level: the kernel printed it.
    pub(crate) stamped: bool,
    /// By its time stamp, since the kernel was started.
    pub(crate) seconds: Option<u64>,
    /// Messages before it are missing.
    pub(crate) dropped: bool,
    /// The kernel announces that it prints the last line again.
    pub(crate) replayed: bool,
    /// Without prefixes; leading spaces kept.
    pub(crate) text: String,
}

/// Cuts a stream into lines. Holds at most [`MAX_LINE_BYTES`].
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    pending: Vec<u8>,
    number: u64,
}

impl Splitter {
    pub(crate) fn push(&mut self, bytes: &[u8], mut sink: impl FnMut(Line)) {
        let mut rest = bytes;
        while let Some(end) = memchr(b'\n', rest) {
            let (head, tail) = rest.split_at(end);
            rest = tail.get(1..).unwrap_or_default();
            self.append(head);
            sink(self.line());
        }
        self.append(rest);
    }

    /// The last line, if it had no line feed.
    pub(crate) fn finish(&mut self, mut sink: impl FnMut(Line)) {
        if !self.pending.is_empty() {
            sink(self.line());
        }
    }

    /// Whether the next byte begins a line.
    pub(crate) fn is_between_lines(&self) -> bool {
        self.pending.is_empty()
    }

    /// Counts whole lines that nobody wants to see.
    pub(crate) fn skip(&mut self, lines: &[u8]) {
        self.number = self.number.saturating_add(memchr_iter(b'\n', lines).count() as u64);
    }

    /// Lines so far.
    pub(crate) fn lines(&self) -> u64 {
        self.number
    }

    fn append(&mut self, bytes: &[u8]) {
        let room = MAX_LINE_BYTES.saturating_sub(self.pending.len());
        self.pending.extend_from_slice(bytes.get(..bytes.len().min(room)).unwrap_or_default());
    }

    fn line(&mut self) -> Line {
        let text = String::from_utf8_lossy(&self.pending);
        let line = strip(self.number, &text);
        self.pending.clear();
        self.number = self.number.saturating_add(1);
        line
    }
}

/// Takes prefixes off, one after the other: carriage returns, notes of dropped messages, log level, time stamp, caller.
/// A time stamp further on (after the residue of a login prompt, say) counts if what follows it looks like the kernel.
fn strip(number: u64, raw: &str) -> Line {
    let raw = raw.trim_end_matches(['\r', ' ', '\t', '\0']);
    let mut text = raw.trim_start_matches(['\r', '\0']);
    let (mut caller, mut stamped, mut dropped, mut prompted) = (None, false, false, false);
    let mut seconds = None;
    loop {
        if let Some(rest) = after_drop_note(text) {
            dropped = true;
            text = rest;
        } else if let Some(rest) = after_level(text) {
            stamped = true;
            text = rest;
        } else if let Some((time, rest)) = after_stamp(text) {
            stamped = true;
            seconds = seconds.or(Some(time));
            text = rest;
        } else if let (true, Some((who, rest))) = (stamped, after_caller(text)) {
            caller = caller.or(Some(who));
            text = rest;
        } else if let (false, Some(rest)) = (stamped || prompted, stamp_inside(text).or_else(|| after_prompt(text))) {
            // Once: whoever is at the prompt may write another, and each would be looked for in all that follows.
            prompted = true;
            text = rest;
        } else if let (false, Some(rest)) = (stamped, after_journal(text)) {
            stamped = true;
            text = rest;
        } else {
            break;
        }
    }
    // One space parts the stamp from the message; more belong to the message.
    let replayed = dropped && raw.contains("replaying previous printk message");
    let text = if stamped { text.strip_prefix(' ').unwrap_or(text) } else { text };
    Line { number, caller, stamped, seconds, dropped: dropped && !replayed, replayed, text: text.to_owned() }
}

/// `debian login: `, left over from a terminal.
fn after_prompt(text: &str) -> Option<&str> {
    let (name, rest) = text.split_once(" login: ")?;
    (!name.contains(' ')).then_some(rest).filter(|rest| !rest.is_empty())
}

/// `Nov 23 09:15:00 host kernel: rest`, from a journal; `[Mon Nov 23 09:15:00 2026] rest`, from `dmesg -T`.
fn after_journal(text: &str) -> Option<&str> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let is_date = |month: &str, day: &str, time: &str| {
        MONTHS.contains(&month)
            && day.parse().is_ok_and(|day: u8| day < 32)
            && time.len() >= 8
            && time.get(2..3) == Some(":")
    };
    if let Some((date, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        let mut words = date.split_ascii_whitespace().skip(1);
        return is_date(words.next()?, words.next()?, words.next()?).then_some(rest);
    }
    let (date, rest) = text.split_once(" kernel:")?;
    let mut words = date.split_ascii_whitespace();
    is_date(words.next()?, words.next()?, words.next()?).then_some(rest)
}

/// `** 2158 printk messages dropped ** rest`, `** replaying previous printk message **`.
fn after_drop_note(text: &str) -> Option<&str> {
    let (note, rest) = text.trim_start().strip_prefix("** ")?.split_once(" **")?;
    (note.contains("printk message")).then(|| rest.trim_start())
}

/// `<4>`.
fn after_level(text: &str) -> Option<&str> {
    let (level, rest) = text.strip_prefix('<')?.split_once('>')?;
    (!level.is_empty() && level.len() <= 3 && level.bytes().all(|byte| byte.is_ascii_digit())).then_some(rest)
}

/// `[  12.345678]`: its seconds, and what follows it.
fn after_stamp(text: &str) -> Option<(u64, &str)> {
    let text = text.strip_prefix('[')?;
    let end = text.bytes().take(MAX_STAMP_BYTES).position(|byte| byte == b']')?;
    let (inside, rest) = (text.get(..end)?, text.get(end + 1..)?);
    // Some consoles put the caller into the same brackets: "[  12.345678@0]".
    let inside = inside.split(['@', 'T', 'C']).next().unwrap_or(inside).trim();
    let (seconds, part) = inside.split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.len() <= 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = Some(seconds).filter(|seconds| digits(seconds) && digits(part) && part.len() >= 3)?;
    Some((seconds.parse().ok()?, rest))
}

/// `[ T123]`, `[    C0]`.
fn after_caller(text: &str) -> Option<(Caller, &str)> {
    let (inside, rest) = text.trim_start().strip_prefix('[')?.split_once(']')?;
    let inside = inside.trim();
    let number = |text: &str| text.parse().ok();
    let caller = match (inside.strip_prefix('T'), inside.strip_prefix('C')) {
        (Some(task), _) => Caller::Task(number(task)?),
        (_, Some(cpu)) => Caller::Cpu(number(cpu)?),
        _ => return None,
    };
    Some((caller, rest))
}

/// A time stamp within the first bytes of a line, after the residue of a prompt or of another program's line.
fn stamp_inside(text: &str) -> Option<&str> {
    let at = text
        .char_indices()
        .take(256)
        .find(|(at, letter)| *letter == '[' && text.get(*at..).and_then(after_stamp).is_some())?;
    text.get(at.0..)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(raw: &str) -> (Option<Caller>, String) {
        let line = strip(0, raw);
        (line.caller, line.text)
    }

    #[test]
    fn prefixes_are_taken_off() {
        for raw in [
            "BUG: x",
            "[   12.345678] BUG: x\r",
            "<4>[   12.345678] BUG: x",
            "\r[   12.345678] BUG: x",
            "** 21 printk messages dropped ** [   50.671305] BUG: x",
            "debian login: [   50.671305] BUG: x",
            "Nov 23 09:15:00 debian kernel: BUG: x",
            "Nov 23 09:15:00 debian kernel: [   50.671305] BUG: x",
            "[Mon Nov 23 09:15:00 2026] BUG: x",
        ] {
            assert_eq!(stripped(raw), (None, "BUG: x".to_owned()), "{raw}");
        }
        assert_eq!(stripped("[  1.234567][ T123]  f+0x1/0x2"), (Some(Caller::Task(123)), " f+0x1/0x2".to_owned()));
        assert_eq!(stripped("[  1.234567][    C0] RIP"), (Some(Caller::Cpu(0)), "RIP".to_owned()));
        assert_eq!(stripped("[<ffffffff81d90469>] f+0x1/0x2").1, "[<ffffffff81d90469>] f+0x1/0x2");
    }

    #[test]
    fn one_prompt_is_taken_off() {
        assert_eq!(stripped("a login: b login: c").1, "b login: c");
        // Each further one would cost a look at all that follows.
        let many = "[ login: ".repeat(MAX_LINE_BYTES / 9);
        assert_eq!(stripped(&many).1.len() + 9, many.trim_end().len());
    }

    #[test]
    fn the_seconds_of_a_stamp_are_told() {
        let seconds = |raw| strip(0, raw).seconds;
        assert_eq!(
            ["[    0.000000] a", "<4>[  243.201337][ T1] a", "[1.5] a", "a [ 1.0] b"].map(seconds),
            [Some(0), Some(243), None, None]
        );
        assert_eq!(seconds("debian login: [   50.671305] a"), Some(50));
    }

    #[test]
    fn a_long_line_is_cut() {
        let mut splitter = Splitter::default();
        let mut lines = Vec::new();
        splitter.push(&[b'x'; 3 * MAX_LINE_BYTES], |line| lines.push(line));
        splitter.push(b"\nnext", |line| lines.push(line));
        splitter.finish(|line| lines.push(line));
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].text.len(), MAX_LINE_BYTES);
        assert_eq!((lines[1].text.as_str(), lines[1].number), ("next", 1));
    }
}
