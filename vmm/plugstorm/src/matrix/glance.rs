//! A matrix at a glance: a number or a sign for each cell, so that fourteen designs fit side by side into a mail.

use std::fmt::Write as _;

use super::model::{Cell, Matrix};
use crate::scenario::Design;
use crate::summary::wrapped;

/// As many designs as a table with its cells in words has beside each other; with fewer that one does.
const LEAST_DESIGNS: usize = 5;
/// A column: two digits, a letter, a space.
const COLUMN: usize = 4;
/// A scenario's name is cut here.
const MOST_NAME: usize = 21;

/// The table and its key, lines of at most `width`; nothing where the other table is short enough.
pub(super) fn render(matrix: &Matrix, width: usize) -> String {
    let header = &matrix.header;
    if header.designs.len() < LEAST_DESIGNS {
        return String::new();
    }
    let mut text = String::new();
    let room = (width.saturating_sub(MOST_NAME) / COLUMN).max(1);
    for designs in header.designs.chunks(room) {
        let heads = designs.iter().map(|design| number(*design));
        line(&mut text, "", heads);
        for (row, scenario) in header.scenarios.iter().enumerate() {
            let cells = designs.iter().map(|design| matrix.cell(row, *design).map(sign).unwrap_or_default());
            line(&mut text, &scenario.name, cells);
        }
        text.push('\n');
    }
    let key: Vec<String> =
        header.designs.iter().map(|design| format!("{} {}", number(*design), design.name())).collect();
    let key = format!(
        "{}. In each cell, of {} runs: how many found something, with h where a removal never ended; . none did; ? all prove \
         nothing; - not applicable.",
        key.join(", "),
        header.runs
    );
    for line in wrapped(&key, width) {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// The design's number in the module's table; that of a variant has a mark.
fn number(design: Design) -> String {
    let variant = if design.family() == design { "" } else { "'" };
    format!("{}{variant}", design.family().subsystem_id())
}

fn sign(cell: &Cell) -> String {
    let tally = cell.tally();
    match (tally.caught(), tally.verdicts()) {
        _ if cell.not_applicable.is_some() => "-".into(),
        (0, 0) if tally.inconclusive > 0 => "?".into(),
        // Nothing is known yet.
        (0, 0) => String::new(),
        (0, _) => ".".into(),
        (caught, _) => format!("{caught}{}", if tally.hung > 0 { "h" } else { "" }),
    }
}

fn line(text: &mut String, name: &str, cells: impl Iterator<Item = String>) {
    let name: String = name.chars().take(MOST_NAME).collect();
    let mut line = format!("{name:MOST_NAME$}");
    for cell in cells {
        let _ = write!(line, "{cell:>COLUMN$}");
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::super::tests::{cell, found, hung, matrix_to_do};
    use super::super::{Came, Cell};
    use super::*;

    /// Two scenarios and all designs: each way a cell may be.
    fn matrix() -> Matrix {
        let mut matrix = matrix_to_do(2);
        matrix.header.designs = Design::ALL.to_vec();
        let runs = |index: usize| match index {
            0 => vec![found(1, "BUG: x"), found(2, "BUG: x")],
            1 => vec![hung(1, "removal never ends"), Some(Came::Passed)],
            2 => vec![Some(Came::Inconclusive { reason: "why".into() }), None],
            3 => vec![None, None],
            4 => vec![Some(Came::Passed), Some(Came::Inconclusive { reason: "why".into() })],
            _ => vec![Some(Came::Passed), Some(Came::Passed)],
        };
        let one = Design::ALL.into_iter().enumerate().map(|(index, design)| cell("one", design, runs(index)));
        let two = Design::ALL.into_iter().map(|design| Cell {
            row: 1,
            not_applicable: Some("it has no timer".into()),
            ..cell("two", design, Vec::new())
        });
        matrix.cells = one.chain(two).collect();
        matrix
    }

    #[test]
    fn all_designs_fit_into_a_mail() {
        let text = render(&matrix(), 78);
        assert!(text.lines().all(|line| line.len() <= 78), "{text}");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>().join(" "), "1 2 3 3' 4 4' 5 6 7 8 9 10 11 12");
        let cells = |line: &str| line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ");
        assert_eq!(cells(lines[1]), "2 1h ? . . . . . . . . . .");
        assert_eq!(cells(lines[2]), ["-"; 14].join(" "));
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("3' by-value-copy") && words.contains("of 2 runs"), "{text}");
    }

    #[test]
    fn where_there_is_less_room_it_comes_in_parts() {
        let text = render(&matrix(), 50);
        assert!(text.lines().all(|line| line.len() <= 50), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("one ")).count(), 2);
        assert_eq!(render(&matrix_to_do(1), 78), "");
    }
}
