//! What a person sees of a bisection: a line for each run and each commit, and what is left.

use super::super::show;
use crate::bisect::{Bisection, Came, Plan, Ran, Remaining, Step, Watcher, run_line, step_line, what_is_left};
use crate::progress::Board;

pub(super) struct Shown<'a> {
    board: &'a Board,
}

impl<'a> Shown<'a> {
    /// Says what has been done already.
    pub(super) fn new(board: &'a Board, bisection: &Bisection) -> Self {
        let shown = Self { board };
        let done = bisection.steps.iter().filter(|step| step.verdict.is_some()).count();
        if !bisection.bad.runs.is_empty() {
            shown.line(&format!("bisect: going on with a bisection of which {done} steps were done earlier"));
        }
        shown
    }

    fn line(&self, text: &str) {
        self.board.aside(|| show::err(&format!("{text}\n")));
    }
}

impl Watcher for Shown<'_> {
    fn begins(&self, bisection: &Bisection, step: &Step, remaining: Option<Remaining>) {
        let commit = &step.commit;
        let what = match remaining {
            Some(remaining) => what_is_left(bisection, remaining),
            None if commit == &bisection.bad.commit => "the bad commit, as it was given".into(),
            None => "the good commit, as it was given".into(),
        };
        self.line(&format!("bisect: {} \"{}\": {what}", commit.short(), commit.subject));
    }

    fn ran(&self, step: &Step, ran: &Ran, came: &Came) {
        self.line(&format!("  {} {}", step.commit.short(), run_line(ran, came)));
    }

    fn planned(&self, bisection: &Bisection, plan: &Plan) {
        let title = bisection.target.as_ref().map_or("", |target| target.name());
        self.line(&format!("bisect: {title}\nbisect: {}", plan.words()));
    }

    fn decided(&self, bisection: &Bisection, step: &Step) {
        self.line(&format!("bisect: {}", step_line(step, bisection.target.as_ref())));
    }
}
