//! Lines of the server's, read.

use plugstorm::bench::model::Sample;

/// The version of the lines. Another one is refused.
pub(crate) const VERSION: u32 = 1;
/// The longest line, in bytes: a sentence, with room.
pub(crate) const MOST_BYTES: usize = 4096;

/// What the server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// It runs, and speaks this version.
    Version(u32),
    /// The guest is up: what it is, in words.
    Ready(String),
    /// There is no guest to be had here: one sentence.
    Skip(String),
    /// Of the measure that was asked for.
    Sample(Sample),
    /// Beside the samples; nobody here wants to know.
    Note,
    /// The measure is over.
    Done,
    /// It could not be measured: one sentence.
    Error(String),
    /// The guest is lost: one sentence.
    Lost(String),
}

/// What a line says; nothing if it is none of the server's.
pub(crate) fn parse(line: &str) -> Option<Line> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let sentence = || (!rest.is_empty()).then(|| rest.to_owned());
    Some(match word {
        "plugstorm-bench" => Line::Version(rest.parse().ok()?),
        "ready" => Line::Ready(sentence()?),
        "skip" => Line::Skip(sentence()?),
        "sample" => Line::Sample(rest.parse().ok()?),
        "note" => Line::Note,
        "done" if rest.is_empty() => Line::Done,
        "error" => Line::Error(sentence()?),
        "lost" => Line::Lost(sentence()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_read() {
        let sample = Sample { round: 1, thread: 0, value: u64::MAX, count: 100 };
        for (line, expected) in [
            ("plugstorm-bench 1", Some(Line::Version(1))),
            ("ready 6.12.0, 2 CPUs", Some(Line::Ready("6.12.0, 2 CPUs".into()))),
            ("skip no KVM here", Some(Line::Skip("no KVM here".into()))),
            ("sample 1 0 18446744073709551615 100", Some(Line::Sample(sample))),
            ("note locked 2", Some(Line::Note)),
            ("done", Some(Line::Done)),
            ("error EOPNOTSUPP", Some(Line::Error("EOPNOTSUPP".into()))),
            ("lost it", Some(Line::Lost("it".into()))),
            ("plugstorm-bench x", None),
            ("sample 1 0 5", None),
            ("sample 1 0 5 0", None),
            ("sample 1 0 -5 1", None),
            ("sample 1 0 5 1 1", None),
            ("sample 1  0 5 1", None),
            ("done and over", None),
            ("error", None),
            ("ready", None),
            ("", None),
            ("[    0.000000] Linux version 6.12", None),
        ] {
            assert_eq!(parse(line), expected, "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_survived(line: String) {
            parse(&line);
        }

        #[test]
        fn a_sample_survives_the_way(round: u32, thread: u32, value: u64, count in 1..u64::MAX) {
            let line = format!("sample {round} {thread} {value} {count}");
            prop_assert_eq!(parse(&line), Some(Line::Sample(Sample { round, thread, value, count })));
        }
    }
}
