//! Lines over time, drawn with the dots of Braille letters: two columns and four rows of dots in each.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

/// Letters of the picture, across and down.
const WIDTH: usize = 100;
const HEIGHT: usize = 20;
/// The dots of a letter, by column and row from the top.
const DOTS: [[u8; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];
/// Colours of lines, in turn.
const COLOURS: [u8; 6] = [32, 33, 34, 35, 36, 31];
/// Lines named below the picture.
const NAMED: usize = 20;

/// One series.
#[derive(Debug)]
pub(super) struct Line {
    /// What stands below the picture.
    pub(super) name: String,
    /// Seconds and values, in time order.
    pub(super) points: Vec<(f64, f64)>,
}

/// A picture of lines.
#[derive(Debug)]
pub(super) struct Graph {
    lines: Vec<Line>,
    coloured: bool,
}

impl Graph {
    /// Of these lines, in colour on a terminal.
    pub(super) fn new(lines: Vec<Line>) -> Self {
        Self { lines, coloured: std::io::stdout().is_terminal() }
    }

    /// The picture; `time` writes a time in seconds.
    pub(super) fn draw(&self, time: impl Fn(f64) -> String) -> String {
        let finite = || self.lines.iter().flat_map(|line| &line.points).filter(|(_, value)| value.is_finite());
        let Some((from, to)) = bounds(finite().map(|point| point.0)) else { return "nothing to draw".to_owned() };
        let Some((low, high)) = bounds(finite().map(|point| point.1)) else { return "nothing to draw".to_owned() };
        let mut canvas = Canvas::default();
        for (i, line) in self.lines.iter().enumerate() {
            let mut last: Option<(usize, usize)> = None;
            for (at, value) in &line.points {
                if !value.is_finite() {
                    last = None;
                    continue;
                }
                let dot = (place(*at, from, to, WIDTH * 2), HEIGHT * 4 - 1 - place(*value, low, high, HEIGHT * 4));
                canvas.line(last.unwrap_or(dot), dot, i);
                last = Some(dot);
            }
        }
        let mut out = String::new();
        let labels = [high, f64::midpoint(high, low), low].map(short);
        let margin = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
        for row in 0..HEIGHT {
            let label = match row {
                0 => &labels[0],
                row if row == HEIGHT / 2 => &labels[1],
                row if row == HEIGHT - 1 => &labels[2],
                _ => "",
            };
            let _written = write!(out, "{label:>margin$} ┤");
            canvas.row(row, self.coloured, &mut out);
            out.push('\n');
        }
        let (first, last) = (time(from), time(to));
        let between = (WIDTH + 2).saturating_sub(first.len() + last.len()).max(1);
        let _written = writeln!(out, "{:margin$} {first}{:between$}{last}", "", "");
        for (i, line) in self.lines.iter().enumerate().take(NAMED) {
            let mark = if self.coloured { format!("\x1b[{}m━\x1b[0m", colour(i)) } else { "━".to_owned() };
            let newest = line.points.last().map_or_else(String::new, |(_, value)| format!("  {}", short(*value)));
            let _written = writeln!(out, "{:margin$} {mark} {}{newest}", "", line.name);
        }
        if self.lines.len() > NAMED {
            let _written = writeln!(out, "{:margin$} and {} more", "", self.lines.len() - NAMED);
        }
        out.truncate(out.trim_end().len());
        out
    }
}

/// Least and greatest.
fn bounds(numbers: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    numbers.fold(None, |bounds, number| match bounds {
        None => Some((number, number)),
        Some((least, greatest)) => Some((number.min(least), number.max(greatest))),
    })
}

/// Which of `count` dots a number between two others falls on; in the middle where these are one.
fn place(number: f64, least: f64, greatest: f64, count: usize) -> usize {
    let share = if greatest > least { (number - least) / (greatest - least) } else { 0.5 };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the count")]
    let place = (share * (count - 1) as f64).round() as usize;
    place.min(count - 1)
}

/// A number in a few letters.
fn short(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e6).contains(&size) {
        return format!("{value:.3e}");
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn colour(line: usize) -> u8 {
    COLOURS[line % COLOURS.len()]
}

/// Letters, each with its dots and the line that was drawn last in it.
struct Canvas(Vec<(u8, usize)>);

impl Default for Canvas {
    fn default() -> Self {
        Self(vec![(0, 0); WIDTH * HEIGHT])
    }
}

impl Canvas {
    fn dot(&mut self, x: usize, y: usize, line: usize) {
        let letter = &mut self.0[y / 4 * WIDTH + x / 2];
        letter.0 |= DOTS[x % 2][y % 4];
        letter.1 = line;
    }

    /// Dots from one place to another.
    fn line(&mut self, from: (usize, usize), to: (usize, usize), line: usize) {
        let steps = from.0.abs_diff(to.0).max(from.1.abs_diff(to.1)).max(1);
        let between = |from: usize, to: usize, step: usize| {
            if to >= from { from + (to - from) * step / steps } else { from - (from - to) * step / steps }
        };
        for step in 0..=steps {
            self.dot(between(from.0, to.0, step), between(from.1, to.1, step), line);
        }
    }

    fn row(&self, row: usize, coloured: bool, out: &mut String) {
        for (dots, line) in &self.0[row * WIDTH..(row + 1) * WIDTH] {
            let letter = if *dots == 0 { ' ' } else { char::from_u32(0x2800 + u32::from(*dots)).unwrap_or(' ') };
            if coloured && *dots != 0 {
                let _written = write!(out, "\x1b[{}m{letter}\x1b[0m", colour(*line));
            } else {
                out.push(letter);
            }
        }
        while out.ends_with(' ') {
            out.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(points: Vec<(f64, f64)>) -> String {
        let line = Line { name: "up{job=\"a\"}".to_owned(), points };
        Graph { lines: vec![line], coloured: false }.draw(|at| format!("t{at}"))
    }

    #[test]
    fn a_rising_line_goes_from_the_lower_left_to_the_upper_right() {
        let picture = drawn((0..=100).map(|i| (f64::from(i), f64::from(i) * 2.0)).collect());
        let rows: Vec<&str> = picture.lines().collect();
        assert!(
            rows[0].starts_with("200 ┤")
                && rows[0].ends_with('⠉') | rows[0].ends_with('⠁') | rows[0].ends_with('⠊') | rows[0].ends_with('⠈'),
            "{picture}"
        );
        assert!(rows[HEIGHT / 2].starts_with("100 ┤"), "{picture}");
        assert_eq!(rows[HEIGHT - 1].chars().next(), Some(' '));
        assert!(rows[HEIGHT - 1].starts_with("  0 ┤"), "{picture}");
        assert_ne!(rows[HEIGHT - 1].chars().nth(5), Some(' '), "{picture}");
        assert!(rows[HEIGHT].contains("t0") && rows[HEIGHT].ends_with("t100"), "{picture}");
        assert!(rows[HEIGHT + 1].ends_with("━ up{job=\"a\"}  200"), "{picture}");
    }

    #[test]
    fn a_constant_one_point_and_nothing_can_be_drawn() {
        assert!(drawn(vec![(0.0, 5.0), (1.0, 5.0)]).contains("5 ┤"));
        assert!(drawn(vec![(0.0, f64::NAN), (1.0, 5.0)]).contains('━'));
        assert_eq!(drawn(Vec::new()), "nothing to draw");
        assert_eq!(drawn(vec![(0.0, f64::INFINITY)]), "nothing to draw");
    }
}
