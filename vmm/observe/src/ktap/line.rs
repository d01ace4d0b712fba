//! A line of the log, read as KTAP.

/// Digits of a number of tests.
const MAX_DIGITS: usize = 9;

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    /// `KTAP version 1`: a report, or that of a test's own tests, begins.
    Version,
    /// `1..N`.
    Plan(u64),
    /// `# Subtest: NAME`: whose own tests these are.
    Subtest(&'a str),
    /// `ok`, `not ok`.
    Result(ResultLine<'a>),
    /// `# TEXT`.
    Note(&'a str),
    /// `Bail out! TEXT`.
    BailOut(&'a str),
}

/// `ok 1 NAME # REMARK`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ResultLine<'a> {
    pub(super) ok: bool,
    pub(super) number: u64,
    pub(super) name: &'a str,
    pub(super) remark: Option<&'a str>,
}

/// The line's indentation and what it is; nothing if it is not KTAP.
pub(super) fn parse(text: &str) -> Option<(usize, Kind<'_>)> {
    let rest = text.trim_start_matches(' ');
    let indent = text.len().saturating_sub(rest.len());
    kind(rest.trim_end()).map(|kind| (indent, kind))
}

fn kind(text: &str) -> Option<Kind<'_>> {
    if let Some(version) = text.strip_prefix("KTAP version ").or_else(|| text.strip_prefix("TAP version ")) {
        return number(version).map(|_| Kind::Version);
    }
    if let Some(plan) = text.strip_prefix("1..") {
        // TAP's `1..0 # SKIP reason` has something behind it.
        return number(plan.split(' ').next().unwrap_or(plan)).map(Kind::Plan);
    }
    if let Some(note) = text.strip_prefix('#') {
        let note = note.trim_start();
        return Some(note.strip_prefix("Subtest: ").map_or(Kind::Note(note), |name| Kind::Subtest(name.trim())));
    }
    if let Some(reason) = text.strip_prefix("Bail out!") {
        return Some(Kind::BailOut(reason.trim()));
    }
    let (ok, rest) = match text.strip_prefix("not ok ") {
        Some(rest) => (false, rest),
        None => (true, text.strip_prefix("ok ")?),
    };
    let (count, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let number = number(count)?;
    let (name, remark) = match rest.split_once('#') {
        Some((name, remark)) => (name, Some(remark.trim())),
        None => (rest, None),
    };
    // KUnit put a dash before the name until 6.3.
    let name = name.strip_prefix("- ").unwrap_or(name).trim();
    Some(Kind::Result(ResultLine { ok, number, name, remark: remark.filter(|remark| !remark.is_empty()) }))
}

fn number(text: &str) -> Option<u64> {
    let digits = (1..=MAX_DIGITS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(ok: bool, number: u64, name: &'static str, remark: Option<&'static str>) -> Kind<'static> {
        Kind::Result(ResultLine { ok, number, name, remark })
    }

    #[test]
    fn lines_are_told_apart() {
        let cases = [
            ("KTAP version 1", 0, Kind::Version),
            ("    KTAP version 2", 4, Kind::Version),
            ("TAP version 14", 0, Kind::Version),
            ("1..12", 0, Kind::Plan(12)),
            ("1..0 # SKIP nothing here", 0, Kind::Plan(0)),
            ("    # Subtest: plugstorm_rwsem", 4, Kind::Subtest("plugstorm_rwsem")),
            (
                "    # two_threads: EXPECTATION FAILED at x.c:7",
                4,
                Kind::Note("two_threads: EXPECTATION FAILED at x.c:7"),
            ),
            ("  ok 2 test_2", 2, result(true, 2, "test_2", None)),
            ("ok 1 - example", 0, result(true, 1, "example", None)),
            ("not ok 3 a b c ", 0, result(false, 3, "a b c", None)),
            ("    not ok 4 slow # TIMEOUT 30 seconds", 4, result(false, 4, "slow", Some("TIMEOUT 30 seconds"))),
            ("ok 5 # SKIP", 0, result(true, 5, "", Some("SKIP"))),
            ("ok 6", 0, result(true, 6, "", None)),
            ("Bail out! no memory", 0, Kind::BailOut("no memory")),
        ];
        for (text, indent, kind) in cases {
            assert_eq!(parse(text), Some((indent, kind)), "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_it_is_not_ktap() {
        for text in [
            "",
            "    ",
            "ok",
            "okay 1 x",
            "ok one",
            "ok -1 x",
            "ok 1234567890 x",
            "not ok",
            "notok 1",
            "1..",
            "1..x",
            "1.. 5",
            "0..5",
            "KTAP version",
            "KTAP version one",
            "plugstorm: ok 1 x",
            "\tok 1 x",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
