//! Annotations of a GitHub workflow: lines of standard output that GitHub shows beside a change.

use super::text::{rates, shortened, visible};
use super::{Distinct, Overall, Report, Run, command};
use crate::results::Verdict;

/// GitHub shows as many of each level a step (toolkit/docs/problem-matchers.md) and drops the others in silence.
const MOST_OF_A_LEVEL: usize = 10;
/// The checks API takes 255 characters of a title.
const MOST_TITLE_BYTES: usize = 255;
/// It takes 64 KiB of a message, and shows a few lines.
const MOST_MESSAGE_BYTES: usize = 4096;

pub(super) fn render(report: &Report) -> String {
    let unproven = report.runs.iter().filter(|run| Overall::of(&run.result) == Overall::Inconclusive);
    let unknown = report.findings.iter().filter(|found| found.known.is_none());
    let known = report.findings.iter().filter_map(|found| Some((found, found.known.as_ref()?)));
    let errors = unknown.map(|found| finding("error", report, found, None));
    let unread = report.unread.iter().map(|sentence| line("error", None, "a result is missing", sentence));
    let warnings = unproven.map(inconclusive);
    let notices = known.map(|(found, why)| finding("notice", report, found, Some(why)));
    let accounts = report.known.iter().map(|account| line("notice", None, "known findings", account));
    [
        bounded("error", "findings", errors),
        bounded("error", "missing results", unread),
        bounded("warning", "runs that prove nothing", warnings),
        bounded("notice", "known findings", notices.chain(accounts)),
    ]
    .concat()
}

/// As many as are shown; of more the last says how many.
fn bounded(level: &str, what: &str, lines: impl Iterator<Item = String>) -> String {
    let mut lines: Vec<String> = lines.collect();
    if lines.len() > MOST_OF_A_LEVEL {
        let more = lines.len() - (MOST_OF_A_LEVEL - 1);
        lines.truncate(MOST_OF_A_LEVEL - 1);
        lines.push(line(
            level,
            None,
            &format!("{more} more {what}"),
            "The log of this step and the report have them all.",
        ));
    }
    lines.concat()
}

fn finding(level: &str, report: &Report, found: &Distinct, known: Option<&String>) -> String {
    let Some((run, first)) = found.first(&report.runs) else { return String::new() };
    let mut message = vec![format!("{}: {}", found.kind.name(), rates(report, found).join("; "))];
    if let Some(why) = known {
        message.push(format!("known: {why}"));
    }
    if !first.explanation.is_empty() {
        message.push(first.explanation.clone());
    }
    message.push(format!("again: {}", command(&run.result)));
    line(level, file(run), &found.title, &message.join("\n"))
}

fn inconclusive(run: &Run) -> String {
    let result = &run.result;
    let unsaid = match result.verdict {
        Verdict::Running => "the run has not ended, or was killed",
        _ => "the result does not say why",
    };
    let reason = result.reason.as_deref().unwrap_or(unsaid);
    let title = format!("{}, seed {}, proves nothing", result.scenario, result.seed);
    line("warning", file(run), &title, &format!("{reason}\nagain: {}", command(result)))
}

/// The scenario, where it can be one of the repository's files: GitHub knows no others.
fn file(run: &Run) -> Option<&str> {
    let file = run.result.origin.as_ref()?.file.as_str();
    (!file.starts_with('/') && !file.contains("..")).then_some(file)
}

fn line(level: &str, file: Option<&str>, title: &str, message: &str) -> String {
    let file = file.map(|file| format!("file={},", property(file))).unwrap_or_default();
    let title = property(&shortened(&visible(title), MOST_TITLE_BYTES));
    let message = data(&shortened(&visible(message), MOST_MESSAGE_BYTES));
    format!("::{level} {file}title={title}::{message}\n")
}

/// As the toolkit does (toolkit/packages/core/src/command.ts): a line is a command.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// And in what stands before the message, commas and colons end something.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sample;
    use super::*;

    #[test]
    fn reports() {
        let [one, many] = sample::reports();
        insta::assert_snapshot!(format!("{}\n{}", render(&one), render(&many)));
    }

    #[test]
    fn what_github_would_drop_is_counted() {
        let mut result = sample::found();
        result.findings = (0..25).map(|number| sample::finding(&[&format!("title {number}")])).collect();
        let text = render(&sample::report([result]));
        assert_eq!(text.lines().count(), MOST_OF_A_LEVEL);
        assert!(
            text.ends_with("::error title=16 more findings::The log of this step and the report have them all.\n"),
            "{text}"
        );
    }

    proptest! {
        /// Read back as the runner does.
        #[test]
        fn whatever_a_guest_says_each_line_is_one_annotation(said in "[\\x00-\\x7f\u{85}é]{0,80}") {
            for line in render(&sample::report([sample::hostile(&said)])).lines() {
                let rest = line.strip_prefix("::error ").unwrap();
                let (properties, message) = rest.split_once("::").unwrap();
                for property in properties.split(',') {
                    let (name, value) = property.split_once('=').unwrap();
                    prop_assert!(["file", "title"].contains(&name), "{}", line);
                    prop_assert!(!value.contains([':', '\r']));
                }
                prop_assert!(message.contains("again%3A") || message.contains("again: "));
            }
        }
    }
}
