//! Tables that fit a width: names on the left, numbers flush right, in as many parts of whole columns as it takes.

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grid {
    /// What is above the names, and above each column.
    pub(super) heads: Vec<String>,
    /// Names, and a cell for each column.
    pub(super) rows: Vec<Vec<String>>,
}

/// What stands between two columns, and around them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// For a terminal: columns two spaces apart.
    Plain,
    /// A Markdown table, padded so that it is one in a mail too.
    Markdown,
}

impl Grid {
    /// No wider than so many columns, unless one column alone is.
    pub(super) fn render(&self, width: usize, style: Style) -> String {
        let widths: Vec<usize> = (0..self.heads.len()).map(|at| self.width(at)).collect();
        let mut text = String::new();
        for part in parts(&widths, width, style) {
            if !text.is_empty() {
                text.push('\n');
            }
            let columns: Vec<usize> = std::iter::once(0).chain(part).collect();
            let mut put = |cells: &[String]| line(&mut text, style, &columns, &widths, cells);
            put(&self.heads);
            let rule = |at: usize, width: &usize| match style {
                // A colon at its end: flush right.
                Style::Markdown if at > 0 => format!("{}:", "-".repeat(width.saturating_sub(1))),
                _ => "-".repeat(*width),
            };
            put(&widths.iter().enumerate().map(|(at, width)| rule(at, width)).collect::<Vec<_>>());
            self.rows.iter().for_each(|row| put(row));
        }
        text
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().chain([&self.heads]).filter_map(|row| row.get(column));
        // A rule has a dash and a colon at least.
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(3)
    }
}

/// Which columns go side by side, beside the first.
fn parts(widths: &[usize], most: usize, style: Style) -> Vec<std::ops::Range<usize>> {
    let (around, between) = match style {
        Style::Plain => (0, 2),
        // "| " before, " |" after, " | " between.
        Style::Markdown => (4, 3),
    };
    let first = around + widths.first().copied().unwrap_or_default();
    let (mut parts, mut begin, mut used) = (Vec::new(), 1, first);
    for (at, width) in widths.iter().enumerate().skip(1) {
        if at > begin && used + between + width > most {
            parts.push(begin..at);
            (begin, used) = (at, first);
        }
        used += between + width;
    }
    if begin < widths.len() {
        parts.push(begin..widths.len());
    }
    parts
}

fn line(text: &mut String, style: Style, columns: &[usize], widths: &[usize], cells: &[String]) {
    let padded = columns.iter().map(|column| {
        let width = widths.get(*column).copied().unwrap_or_default();
        let cell = cells.get(*column).map_or("", String::as_str);
        if *column == 0 { format!("{cell:width$}") } else { format!("{cell:>width$}") }
    });
    let padded: Vec<String> = padded.collect();
    match style {
        Style::Plain => text.push_str(padded.join("  ").trim_end()),
        Style::Markdown => text.push_str(&format!("| {} |", padded.join(" | "))),
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        let row = |cells: [&str; 4]| cells.map(str::to_owned).to_vec();
        Grid { heads: row(["design", "one", "two", "three"]), rows: vec![row(["rwsem", "1.00", "22.0 ns", ""])] }
    }

    #[test]
    fn numbers_stand_flush_right() {
        insta::assert_snapshot!(grid().render(80, Style::Markdown));
    }

    #[test]
    fn what_does_not_fit_goes_below() {
        insta::assert_snapshot!(grid().render(20, Style::Plain));
        let whole = parts(&[10, 10, 10], 34, Style::Plain);
        assert!(matches!(whole.as_slice(), [std::ops::Range { start: 1, end: 3 }]), "{whole:?}");
        assert_eq!(parts(&[10, 10, 10], 33, Style::Plain), [1..2, 2..3]);
        assert!(parts(&[10], 33, Style::Plain).is_empty());
    }
}
