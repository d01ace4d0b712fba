//! Words of a report that are the same in every format.

use std::borrow::Cow;

use crate::results::Verdict;
use crate::summary::count;

use super::{Distinct, Overall, Rate, Report};

/// What a guest said, fit to be shown: control characters and those that turn the direction of text around are a replacement
/// character, but for line feeds and tabs. XML 1.0 has no place for the former (2.2), and with the latter a line can be made to
/// read as another.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    let hidden = |letter: char| {
        (letter.is_control() && letter != '\n' && letter != '\t')
            || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
            || matches!(letter, '\u{fffe}' | '\u{ffff}')
    };
    if text.contains(hidden) { Cow::Owned(text.replace(hidden, "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// The same, on one line.
pub(super) fn one_line(text: &str) -> String {
    visible(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// At most so many bytes of a text, cut between characters; what was cut is told.
pub(super) fn shortened(text: &str, most_bytes: usize) -> String {
    const CUT: &str = "…";
    if text.len() <= most_bytes {
        return text.to_owned();
    }
    let room = most_bytes.saturating_sub(CUT.len());
    let end = (0..=room).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}{CUT}", text.get(..end).unwrap_or_default())
}

/// What all runs come to, in one sentence.
pub(super) fn headline(report: &Report) -> String {
    if let ([run], true) = (report.runs.as_slice(), report.unread.is_empty()) {
        let known = if report.overall() == Overall::Known { "; all of it is known and accepted" } else { "" };
        return match &run.result.reason {
            Some(reason) => format!("{}{known}", one_line(reason)),
            None if run.result.verdict == Verdict::Running => "the run has not ended, or was killed".into(),
            None => "nothing found, and the evidence is complete".into(),
        };
    }
    let runs = |wanted: fn(Verdict) -> bool| report.runs.iter().filter(|run| wanted(run.result.verdict)).count();
    let found = runs(|verdict| verdict == Verdict::Found);
    let clean = runs(|verdict| verdict == Verdict::Clean);
    let nothing = runs(|verdict| !matches!(verdict, Verdict::Found | Verdict::Clean));
    let mut parts = Vec::new();
    let known = report.findings.iter().filter(|found| found.known.is_some()).count();
    let known = match (known, report.findings.len()) {
        (0, _) => String::new(),
        (known, all) if known == all => " (known)".into(),
        (known, _) => format!(" ({known} of them known)"),
    };
    if found > 0 {
        let findings = count(report.findings.len() as u64, "different finding");
        parts.push(format!("{findings}{known} in {found} of {} runs", report.runs.len()));
    }
    parts.extend((clean > 0).then(|| format!("{clean} clean")));
    parts.extend((nothing > 0).then(|| format!("{nothing} without a verdict")));
    parts.extend(match report.unread.len() {
        0 => None,
        1 => Some("1 result is missing".to_owned()),
        n => Some(format!("{n} results are missing")),
    });
    parts.join("; ")
}

/// `found in 3 of 10 runs (10-61 %), first in cycle 1, median 4, latest 9`.
pub(super) fn rate(rate: &Rate) -> String {
    let interval = rate.interval.map(|interval| format!(" ({})", interval.percent())).unwrap_or_default();
    format!("in {} of {} runs{interval}, {}", rate.runs, rate.of, cycles(rate))
}

/// When.
pub(super) fn cycles(rate: &Rate) -> String {
    match rate.cycles {
        [first, _, last] if first == last && rate.runs > 1 => format!("each time in cycle {first}"),
        [first, _, last] if first == last => format!("in cycle {first}"),
        [first, median, last] => format!("first in cycle {first}, median {median}, latest {last}"),
    }
}

/// How often a finding was met: by setting where there are several.
pub(super) fn rates(report: &Report, found: &Distinct) -> Vec<String> {
    match found.rates.as_slice() {
        // Of one run there is no rate.
        [one] if one.of == 1 => {
            let times = count(found.count, "time");
            vec![format!("{times}, first in cycle {}", one.cycles.first().copied().unwrap_or_default())]
        }
        rates => {
            let many = report.settings.len() > 1;
            let of = |at: &Rate| match report.settings.get(at.setting) {
                Some(setting) if many => format!("{} on {}: {}", setting.name(), setting.kernel, rate(at)),
                _ => rate(at),
            };
            rates.iter().map(of).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_hidden_is_shown() {
        assert_eq!(visible("a\u{1b}[2J\u{202e}b\tc\n\0\u{9b}"), "a\u{fffd}[2J\u{fffd}b\tc\n\u{fffd}\u{fffd}");
        assert!(matches!(visible("plain \u{e9}"), Cow::Borrowed(_)));
        assert_eq!(one_line(" a\n\tb  c\n"), "a b c");
    }

    #[test]
    fn what_is_cut_is_told() {
        assert_eq!(shortened("abcdef", 6), "abcdef");
        assert_eq!(shortened("abcdefg", 6), "abc…");
        assert_eq!(shortened("ééé", 5), "é…");
    }

    proptest! {
        #[test]
        fn shortened_texts_are_short(text in "\\PC{0,40}", most in 3usize..60) {
            prop_assert!(shortened(&text, most).len() <= most);
        }
    }
}
