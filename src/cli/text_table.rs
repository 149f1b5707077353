//! Aligned columns on stdout, for the commands that answer with a small table.

use std::io::Write;

/// Rows of text under a header; numbers are set flush right.
pub(crate) struct TextTable {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl TextTable {
    /// An empty table with these column names.
    pub(crate) fn new(header: &[&str]) -> Self {
        Self { header: header.iter().map(|name| (*name).to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row; one cell per column.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Prints it. A closed pipe is the reader's choice and no error.
    pub(crate) fn print(&self) {
        drop(std::io::stdout().lock().write_all(self.render().as_bytes()));
    }

    fn render(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.chain(self.header.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let numeric = |column: usize| {
            !self.rows.is_empty()
                && self
                    .rows
                    .iter()
                    .all(|row| row.get(column).is_some_and(|cell| cell == "-" || cell.parse::<f64>().is_ok()))
        };
        let columns: Vec<(usize, bool)> = (0..self.header.len()).map(|c| (width(c), numeric(c))).collect();
        let mut out = String::new();
        for row in std::iter::once(&self.header).chain(&self.rows) {
            let mut line = String::new();
            for (cell, (width, right)) in row.iter().zip(&columns) {
                let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
                let (before, after) = if *right { (pad.as_str(), "") } else { ("", pad.as_str()) };
                line.push_str(before);
                line.push_str(cell);
                line.push_str(after);
                line.push_str("  ");
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligns_text_left_and_numbers_right() {
        let mut table = TextTable::new(&["topic", "records"]);
        table.row(["logs".into(), "7".into()]);
        table.row(["rollup.x".into(), "1234567".into()]);
        assert_eq!(table.render(), "topic     records\nlogs            7\nrollup.x  1234567\n");
    }
}
