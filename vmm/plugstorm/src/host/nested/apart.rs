//! Keeps the outputs of jobs apart that run beside each other: one port carries them all, piece by piece.

use std::collections::BTreeMap;

use super::{Output, Stream};

/// What is held back of one output at most.
const MOST_HELD_BYTES: usize = 1 << 20;

/// Hands outputs on: as they come where one job runs at a time; else standard error in whole lines, and standard output
/// whole when its job has ended.
#[derive(Debug)]
pub(super) struct Apart {
    holds: bool,
    held: BTreeMap<usize, Held>,
}

#[derive(Debug, Default)]
struct Held {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Apart {
    pub(super) fn new(at_a_time: usize) -> Self {
        Self { holds: at_a_time > 1, held: BTreeMap::new() }
    }

    /// Takes what a job wrote.
    pub(super) fn take(&mut self, output: Output<'_>, sink: &mut dyn FnMut(Output<'_>)) {
        if !self.holds {
            return sink(output);
        }
        let held = self.held.entry(output.job).or_default();
        let (kept, whole) = match output.stream {
            Stream::Stdout => (&mut held.stdout, 0),
            Stream::Stderr => {
                let line = output.bytes.iter().rposition(|byte| *byte == b'\n');
                let whole = line.map_or(0, |at| held.stderr.len() + at + 1);
                (&mut held.stderr, whole)
            }
        };
        kept.extend_from_slice(output.bytes);
        let whole = if kept.len() > MOST_HELD_BYTES { kept.len() } else { whole };
        give(output.job, output.stream, kept, whole, sink);
    }

    /// The job has ended: hands on what is left of it.
    pub(super) fn ended(&mut self, job: usize, sink: &mut dyn FnMut(Output<'_>)) {
        if let Some(Held { mut stdout, mut stderr }) = self.held.remove(&job) {
            let (errors, results) = (stderr.len(), stdout.len());
            give(job, Stream::Stderr, &mut stderr, errors, sink);
            give(job, Stream::Stdout, &mut stdout, results, sink);
        }
    }

    /// The machine has ended: hands on what is left of all.
    pub(super) fn all_ended(&mut self, sink: &mut dyn FnMut(Output<'_>)) {
        while let Some(job) = self.held.keys().next().copied() {
            self.ended(job, sink);
        }
    }
}

fn give(job: usize, stream: Stream, kept: &mut Vec<u8>, length: usize, sink: &mut dyn FnMut(Output<'_>)) {
    let bytes: Vec<u8> = kept.drain(..length).collect();
    if !bytes.is_empty() {
        sink(Output { job, stream, bytes: &bytes });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUT: Stream = Stream::Stdout;
    const ERR: Stream = Stream::Stderr;

    /// What comes out: job, stream and text of each piece.
    fn passed(at_a_time: usize, feed: impl FnOnce(&mut dyn FnMut(usize, Stream, &str))) -> Vec<String> {
        let mut pieces = Vec::new();
        let mut sink = |output: Output<'_>| {
            let sign = if output.stream == OUT { 'o' } else { 'e' };
            pieces.push(format!("{}{sign}:{}", output.job, String::from_utf8_lossy(output.bytes)));
        };
        let mut apart = Apart::new(at_a_time);
        feed(&mut |job, stream, text| apart.take(Output { job, stream, bytes: text.as_bytes() }, &mut sink));
        apart.ended(0, &mut sink);
        apart.all_ended(&mut sink);
        pieces
    }

    #[test]
    fn one_at_a_time_passes_as_it_comes() {
        let pieces = passed(1, |take| {
            take(0, ERR, "ha");
            take(0, OUT, "lf\nand");
        });
        assert_eq!(pieces, ["0e:ha", "0o:lf\nand"]);
    }

    #[test]
    fn lines_and_results_of_several_stay_whole() {
        let pieces = passed(2, |take| {
            take(1, OUT, "one ");
            take(0, ERR, "a begun");
            take(1, ERR, "b line\n");
            take(0, OUT, "zero\n");
            take(1, OUT, "more\n");
            take(0, ERR, " line\nand a second\nand a rest");
        });
        assert_eq!(
            pieces,
            ["1e:b line\n", "0e:a begun line\nand a second\n", "0e:and a rest", "0o:zero\n", "1o:one more\n"]
        );
    }

    #[test]
    fn there_is_an_end_to_what_is_held() {
        let much = "x".repeat(MOST_HELD_BYTES);
        let pieces = passed(2, |take| {
            take(0, OUT, &much);
            take(0, OUT, "y");
            take(0, OUT, "z");
        });
        assert_eq!(pieces.iter().map(String::len).collect::<Vec<_>>(), [MOST_HELD_BYTES + 4, 4]);
    }
}
