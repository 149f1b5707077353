//! Where in a rule file something is: the place of a mistake inside a text that YAML has folded, quoted or indented.

use serde_saphyr::Location;

/// A place in a file: line and column, from 1; 0 where it is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
}

impl Place {
    /// Where YAML found a value.
    pub(super) fn of(location: Location) -> Self {
        let number = |n: u64| usize::try_from(n).unwrap_or(0);
        Self { line: number(location.line()), column: number(location.column()) }
    }

    /// The place in `file` of line and column `at` of the text that stands at this place.
    pub(super) fn inside(self, file: &str, (line, column): (usize, usize)) -> Self {
        let Some(index) = self.line.checked_sub(1) else { return self };
        let Some(first) = file.lines().nth(index) else { return self };
        let start = first.get(self.column.saturating_sub(1)..).unwrap_or("");
        // The place of a block is its first line, or the indicator in front of it.
        let block = match start.chars().next() {
            Some(style @ ('|' | '>')) => Some((style, self.line)),
            _ => file.lines().take(index).filter(|text| !text.trim().is_empty()).last().and_then(|before| {
                let before = before.split(" #").next().unwrap_or(before).trim_end();
                let indicator = before.trim_end_matches(|c: char| c.is_ascii_digit() || c == '+' || c == '-');
                indicator.ends_with(['|', '>']).then(|| (if indicator.ends_with('|') { '|' } else { '>' }, index))
            }),
        };
        match start.chars().next() {
            _ if block.is_some() => {
                let Some((style, skipped)) = block else { return self };
                let indented = file.lines().enumerate().skip(skipped).skip_while(|(_, text)| text.trim().is_empty());
                let mut lines = indented.map(|(at, text)| (at + 1, text));
                let Some((first_line, text)) = lines.next() else { return self };
                let indent = text.len() - text.trim_start().len();
                if style == '|' {
                    return Self { line: first_line + line - 1, column: indent + column };
                }
                // Folded: lines are joined by one space.
                let (mut at, mut size, mut left) = (first_line, text.trim_end().len() - indent, column);
                while left > size + 1 {
                    left -= size + 1;
                    match lines.next() {
                        Some((next, text)) => (at, size) = (next, text.trim_end().len().saturating_sub(indent)),
                        None => break,
                    }
                }
                Self { line: at, column: indent + left }
            }
            Some('"' | '\'') if line == 1 => Self { line: self.line, column: self.column + column },
            _ if line == 1 => Self { line: self.line, column: self.column + column - 1 },
            _ => Self { line: self.line + line - 1, column },
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}
