//! Standard input from outside, on its way to the job that runs.

use std::io::Write;
use std::process::ChildStdin;

/// What waits for a job at most, in bytes: as much as a pipe takes without a reader (pipe(7)).
const MOST_WAITING: usize = 64 * 1024;

/// The input of jobs that run one after another.
#[derive(Debug, Default)]
pub(super) struct Input {
    to: Option<ChildStdin>,
    /// What came while no job read: the outer side sends it before the first one runs.
    waiting: Vec<u8>,
    ended: bool,
}

impl Input {
    /// A job has begun.
    pub(super) fn begin(&mut self, to: Option<ChildStdin>) {
        self.to = to;
        let waiting = std::mem::take(&mut self.waiting);
        self.take(&waiting);
        if self.ended {
            self.to = None;
        }
    }

    /// The job has ended.
    pub(super) fn leave(&mut self) {
        self.to = None;
    }

    /// Input has come. A job that reads nothing holds up what follows; one that has closed it loses it, as in a pipe.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        if let Some(to) = &mut self.to {
            if to.write_all(bytes).is_err() {
                self.to = None;
            }
            return;
        }
        self.waiting.extend_from_slice(bytes);
        self.waiting.truncate(MOST_WAITING);
    }

    /// There is no more.
    pub(super) fn end(&mut self) {
        self.ended = true;
        self.to = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    fn cat() -> Child {
        Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
    }

    #[test]
    fn what_comes_before_a_job_is_the_jobs() {
        let mut input = Input::default();
        input.take(b"early ");
        let mut job = cat();
        input.begin(job.stdin.take());
        input.take(b"and late");
        input.end();
        assert_eq!(job.wait_with_output().unwrap().stdout, b"early and late");
    }

    #[test]
    fn an_end_before_a_job_comes_after_what_was_said() {
        let mut input = Input::default();
        input.take(&[b'x'; 100_000]);
        input.end();
        let mut job = cat();
        input.begin(job.stdin.take());
        assert_eq!(job.wait_with_output().unwrap().stdout.len(), MOST_WAITING);
        let mut next = cat();
        input.begin(next.stdin.take());
        assert_eq!(next.wait_with_output().unwrap().stdout, b"");
    }
}
