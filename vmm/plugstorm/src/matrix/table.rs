//! Tables that fit a width: rows of scenarios, columns of designs, in as many parts as it takes.

use std::fmt::Write as _;
use std::ops::Range;

use super::model::{Cell, Matrix};

/// What stands between two columns, and around them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// For a terminal: columns two spaces apart.
    Plain,
    /// A Markdown table, padded so that it is one in a mail too.
    Markdown,
}

/// A scenario's name may be longer: it is then broken.
const MOST_NAME: usize = 22;

/// The matrix in parts of whole columns, none wider than `width` unless one column alone is.
pub(super) fn render(matrix: &Matrix, width: usize, style: Style) -> String {
    let names: Vec<Vec<String>> = matrix.header.scenarios.iter().map(|row| broken(&row.name, MOST_NAME)).collect();
    let first = "scenario";
    let name_width = widest(names.iter().flatten().map(String::as_str).chain([first]));
    let columns: Vec<Column> = matrix.header.designs.iter().map(|design| Column::new(matrix, *design)).collect();
    let widths: Vec<usize> = columns.iter().map(|column| column.width).collect();
    let mut text = String::new();
    for part in parts(name_width, &widths, width, style) {
        if !text.is_empty() {
            text.push('\n');
        }
        let columns = columns.get(part).unwrap_or_default();
        let heads: Vec<&str> = columns.iter().map(|column| column.head.as_str()).collect();
        line(&mut text, style, (first, name_width), columns, &heads);
        rule(&mut text, style, name_width, columns);
        for (row, name) in names.iter().enumerate() {
            let cells: Vec<&[String]> =
                columns.iter().map(|column| column.cells.get(row).map_or(&[][..], Vec::as_slice)).collect();
            let height = cells.iter().map(|cell| cell.len()).max().unwrap_or(0).max(name.len());
            for at in 0..height {
                let parts: Vec<&str> = cells.iter().map(|cell| cell.get(at).map_or("", String::as_str)).collect();
                line(&mut text, style, (name.get(at).map_or("", String::as_str), name_width), columns, &parts);
            }
            if style == Style::Plain && row + 1 < names.len() {
                text.push('\n');
            }
        }
    }
    text
}

/// A design.
struct Column {
    head: String,
    /// The lines of its cell in each row.
    cells: Vec<Vec<String>>,
    width: usize,
}

impl Column {
    fn new(matrix: &Matrix, design: crate::scenario::Design) -> Self {
        let rows = 0..matrix.header.scenarios.len();
        let cells: Vec<Vec<String>> = rows.map(|row| matrix.cell(row, design).map(lines).unwrap_or_default()).collect();
        let head = design.name().to_owned();
        let width = widest(cells.iter().flatten().map(String::as_str).chain([head.as_str()]));
        Self { head, cells, width }
    }
}

/// What a cell says, a line each.
pub(super) fn lines(cell: &Cell) -> Vec<String> {
    if cell.not_applicable.is_some() {
        return vec!["not applicable".into()];
    }
    let tally = cell.tally();
    let n = cell.runs.len();
    let mut lines: Vec<String> = Vec::new();
    let counts = [
        ("passed", tally.passed),
        ("found", tally.found),
        ("hung", tally.hung),
        ("inconclusive", tally.inconclusive),
        ("to do", tally.pending),
    ];
    lines.extend(counts.iter().filter(|(_, k)| *k > 0).map(|(what, k)| format!("{what} {k}/{n}")));
    if let Some(reach) = &tally.cycles_until_found {
        lines.push(format!("cycle {}", reach.short(cell.cycles)));
    }
    if let Some(rate) = &tally.rate {
        lines.push(format!("rate {}", rate.percent()));
    }
    lines
}

fn widest<'a>(texts: impl Iterator<Item = &'a str>) -> usize {
    texts.map(|text| text.chars().count()).max().unwrap_or(0)
}

/// Which columns go side by side.
fn parts(first: usize, widths: &[usize], most: usize, style: Style) -> Vec<Range<usize>> {
    let (around, between) = match style {
        Style::Plain => (0, 2),
        // "| " before, " |" after, " | " between.
        Style::Markdown => (4, 3),
    };
    let mut parts = Vec::new();
    let (mut begin, mut used) = (0, first + around);
    for (at, width) in widths.iter().enumerate() {
        if at > begin && used + between + width > most {
            parts.push(begin..at);
            (begin, used) = (at, first + around);
        }
        used += between + width;
    }
    if begin < widths.len() {
        parts.push(begin..widths.len());
    }
    parts
}

fn line(text: &mut String, style: Style, (first, first_width): (&str, usize), columns: &[Column], cells: &[&str]) {
    let mut line = String::new();
    // Writing to a string cannot fail.
    let _ = match style {
        Style::Plain => write!(line, "{first:first_width$}"),
        Style::Markdown => write!(line, "| {first:first_width$}"),
    };
    for (column, cell) in columns.iter().zip(cells) {
        let width = column.width;
        let _ = match style {
            Style::Plain => write!(line, "  {cell:width$}"),
            Style::Markdown => write!(line, " | {cell:width$}"),
        };
    }
    match style {
        Style::Plain => text.push_str(line.trim_end()),
        Style::Markdown => {
            text.push_str(&line);
            text.push_str(" |");
        }
    }
    text.push('\n');
}

fn rule(text: &mut String, style: Style, first_width: usize, columns: &[Column]) {
    let dashes: Vec<String> = columns.iter().map(|column| "-".repeat(column.width)).collect();
    let dashes: Vec<&str> = dashes.iter().map(String::as_str).collect();
    line(text, style, (&"-".repeat(first_width), first_width), columns, &dashes);
}

/// A name in pieces of so many characters, after a `-` where there is one.
fn broken(name: &str, most: usize) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut left: Vec<char> = name.chars().collect();
    while left.len() > most {
        let head = left.get(..most).unwrap_or_default();
        let at = head.iter().rposition(|c| *c == '-').map_or(most, |at| at + 1);
        let rest = left.split_off(at);
        pieces.push(left.iter().collect());
        left = rest;
    }
    pieces.push(left.iter().collect());
    pieces
}

#[cfg(test)]
mod tests {
    use super::super::Came;
    use super::super::tests::{cell, found, hung};
    use super::*;
    use crate::scenario::Design;

    #[test]
    fn long_names_are_broken() {
        assert_eq!(broken("short", 22), ["short"]);
        assert_eq!(
            broken("uses-of-a-descriptor-after-the-removal", 22),
            ["uses-of-a-descriptor-", "after-the-removal"]
        );
        assert_eq!(broken("abcdefgh", 3), ["abc", "def", "gh"]);
    }

    #[test]
    fn columns_go_side_by_side_as_they_fit() {
        let whole = |columns: usize| vec![Range { start: 0, end: columns }];
        assert_eq!(parts(10, &[10, 10, 10], 100, Style::Plain), whole(3));
        assert_eq!(parts(10, &[10, 10, 10], 34, Style::Plain), [0..2, 2..3]);
        assert_eq!(parts(10, &[10, 10, 10], 33, Style::Plain), [0..1, 1..2, 2..3]);
        // One that is too wide alone is not left out.
        assert_eq!(parts(10, &[90, 10], 40, Style::Plain), [0..1, 1..2]);
        assert_eq!(parts(10, &[10, 10], 40, Style::Markdown), whole(2));
        assert_eq!(parts(10, &[10, 10], 39, Style::Markdown), [0..1, 1..2]);
        assert!(parts(10, &[], 39, Style::Markdown).is_empty());
    }

    #[test]
    fn a_cell_counts_each_kind_apart() {
        let passed = || Some(Came::Passed);
        let none = Some(Came::Inconclusive { reason: "no".into() });
        let mixed = cell("s", Design::StackToken, vec![passed(), found(3, "a"), hung(9, "b"), none, None]);
        assert_eq!(
            lines(&mixed),
            ["passed 1/5", "found 1/5", "hung 1/5", "inconclusive 1/5", "to do 1/5", "cycle 9 (3-9)", "rate 20-94 %"]
        );
        assert_eq!(lines(&cell("s", Design::StackToken, vec![passed()])), ["passed 1/1", "rate 0-80 %"]);
        assert_eq!(lines(&cell("s", Design::StackToken, vec![None])), ["to do 1/1"]);
    }
}
