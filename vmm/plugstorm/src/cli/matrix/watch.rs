//! What a person sees while a matrix is filled: a moving line on a terminal, and a line for each cell that is complete.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::ProgressBar;

use super::super::show;
use crate::matrix::{MAIL_WIDTH, Matrix, Watcher};
use crate::progress::Board;

/// How often the moving line shows that time goes by.
const TICK: Duration = Duration::from_millis(200);
/// Wider lines are not easier to read.
const MOST_WIDTH: u16 = 160;

pub(super) struct Shown<'a> {
    board: &'a Board,
    bar: Option<ProgressBar>,
}

impl<'a> Shown<'a> {
    /// Says what there is to do.
    pub(super) fn begin(board: &'a Board, matrix: &Matrix, to_do: usize) -> Self {
        let (done, all) = matrix.progress();
        let (rows, columns) = (matrix.header.scenarios.len(), matrix.header.designs.len());
        let earlier = if done > 0 { format!(", {done} of them done earlier") } else { String::new() };
        let (rows, columns, runs) = (count(rows, "scenario"), count(columns, "design"), count(all, "run"));
        show::err(&format!("matrix: {rows}, {columns}, {runs}{earlier}\n"));
        let bar = if to_do > 0 { board.line() } else { None };
        let shown = Self { board, bar };
        if let Some(bar) = &shown.bar {
            bar.set_message(format!("{done} of {all} runs"));
            bar.enable_steady_tick(TICK);
        }
        shown
    }

    pub(super) fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Watcher for Shown<'_> {
    fn line(&self, text: &str) {
        self.board.aside(|| show::err(&format!("{text}\n")));
    }

    fn at(&self, done: usize, all: usize, left: Option<Duration>) {
        let left = left.map(|left| format!(", about {} left", minutes(left))).unwrap_or_default();
        let text = format!("{done} of {all} runs{left}");
        match &self.bar {
            Some(bar) => bar.set_message(text),
            None => self.line(&text),
        }
    }
}

fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// To the minute, and what is shorter to the second.
fn minutes(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..=99 => format!("{seconds} s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}

/// How wide a table may be on standard output.
pub(in crate::cli) fn width() -> usize {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return MAIL_WIDTH;
    }
    let columns = rustix::termios::tcgetwinsize(&stdout).map_or(0, |size| size.ws_col);
    // 0: a terminal that does not know.
    if columns == 0 { MAIL_WIDTH } else { columns.min(MOST_WIDTH).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rough() {
        let words = |seconds| minutes(Duration::from_secs(seconds));
        assert_eq!([words(0), words(99), words(100), words(3600)], ["0 s", "99 s", "2 min", "60 min"]);
    }
}
