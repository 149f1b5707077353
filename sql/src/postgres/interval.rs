//! Intervals as Postgres reads them, made into what the engine reads: `1 day 02:03:04`, `01:00:00`, `P1DT2H`, `@ 5 mins ago`.

/// The same interval in words of the engine; `None` where it is none.
pub(super) fn plain(text: &str) -> Option<String> {
    let text = text.trim();
    let text = text.strip_prefix('@').unwrap_or(text).trim_start();
    let lower = text.to_ascii_lowercase();
    let mut sum = Sum::default();
    match lower.strip_prefix('p') {
        Some(iso) if !iso.starts_with(char::is_alphabetic) || iso.starts_with('t') => sum.add_iso(iso)?,
        _ => sum.add_words(&lower)?,
    }
    let Sum { months, days, micros } = sum;
    Some(format!("{months} mons {days} days {micros} microseconds"))
}

/// Months, days and microseconds, which do not become each other.
#[derive(Default)]
struct Sum {
    months: i64,
    days: i64,
    micros: i64,
}

const DAY_US: f64 = 86_400e6;

impl Sum {
    /// So much of a unit; fractions go on into the next smaller one.
    fn add(&mut self, amount: f64, unit: &str) -> Option<()> {
        if !amount.is_finite() || amount.abs() > 1e12 {
            return None;
        }
        match unit {
            "microsecond" | "us" | "usec" => self.micros += amount.round() as i64,
            "millisecond" | "ms" | "msec" => self.micros += (amount * 1e3).round() as i64,
            "second" | "sec" | "s" => self.micros += (amount * 1e6).round() as i64,
            "minute" | "min" | "m" => self.micros += (amount * 60e6).round() as i64,
            "hour" | "hr" | "h" => self.micros += (amount * 3600e6).round() as i64,
            "day" | "d" => self.add_days(amount),
            "week" | "w" => self.add_days(amount * 7.0),
            "month" | "mon" => self.add_months(amount),
            "year" | "yr" | "y" => self.add_months(amount * 12.0),
            "decade" | "dec" => self.add_months(amount * 120.0),
            "century" | "centuries" | "cent" | "c" => self.add_months(amount * 1200.0),
            _ => return None,
        }
        Some(())
    }

    fn add_days(&mut self, days: f64) {
        self.days += days.trunc() as i64;
        self.micros += (days.fract() * DAY_US).round() as i64;
    }

    fn add_months(&mut self, months: f64) {
        self.months += months.trunc() as i64;
        self.add_days(months.fract() * 30.0);
    }

    /// `1 day -02:03:04.5`, `1y2mons`, `3 weeks ago`.
    fn add_words(&mut self, text: &str) -> Option<()> {
        let (text, ago) = match text.strip_suffix("ago") {
            Some(rest) => (rest.trim_end(), true),
            None => (text, false),
        };
        let mut rest = text.trim_start();
        let mut any = false;
        while !rest.is_empty() {
            let number = rest.find(|c: char| !matches!(c, '0'..='9' | '.' | ':' | '+' | '-')).unwrap_or(rest.len());
            let (amount, tail) = rest.split_at(number);
            let tail = tail.trim_start();
            if amount.contains(':') {
                self.micros += clock_us(amount)?;
                rest = tail;
            } else {
                let letters = tail.find(|c: char| !c.is_alphabetic()).unwrap_or(tail.len());
                let (unit, after) = tail.split_at(letters);
                let amount: f64 = amount.parse().ok()?;
                // A number alone is of seconds.
                let unit = if unit.is_empty() { "second" } else { unit };
                self.add(amount, unit).or_else(|| self.add(amount, unit.strip_suffix('s')?))?;
                rest = after.trim_start();
            }
            rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
            any = true;
        }
        if ago {
            (self.months, self.days, self.micros) = (-self.months, -self.days, -self.micros);
        }
        any.then_some(())
    }

    /// What stands behind the `P` of ISO 8601.
    fn add_iso(&mut self, text: &str) -> Option<()> {
        let (date, time) = text.split_once('t').unwrap_or((text, ""));
        for (part, units) in [
            (date, [('y', "year"), ('m', "month"), ('w', "week"), ('d', "day")].as_slice()),
            (time, &[('h', "hour"), ('m', "minute"), ('s', "second")]),
        ] {
            let mut rest = part;
            while !rest.is_empty() {
                let at = rest.find(char::is_alphabetic)?;
                let letter = rest[at..].chars().next()?;
                let unit = units.iter().find(|(l, _)| *l == letter)?.1;
                self.add(rest[..at].parse().ok()?, unit)?;
                rest = &rest[at + 1..];
            }
        }
        (!date.is_empty() || !time.is_empty()).then_some(())
    }
}

/// `[-]HH:MM[:SS[.ffffff]]` in microseconds.
fn clock_us(text: &str) -> Option<i64> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut parts = text.split(':');
    let hours: f64 = parts.next()?.parse::<u32>().ok()?.into();
    let minutes: f64 = parts.next()?.parse::<u32>().ok().filter(|m| *m < 60)?.into();
    let seconds: f64 = parts.next().map_or(Some(0.0), |s| s.parse().ok())?;
    (parts.next().is_none() && (0.0..61.0).contains(&seconds))
        .then(|| (sign * (hours * 3600e6 + minutes * 60e6 + seconds * 1e6)).round() as i64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_style_that_clients_write() {
        let is = |months: i64, days: i64, micros: i64| Some(format!("{months} mons {days} days {micros} microseconds"));
        for (text, expected) in [
            ("01:00:00", is(0, 0, 3_600_000_000)),
            ("1 day 02:03:04.5", is(0, 1, 7_384_500_000)),
            ("-1 days -00:00:01", is(0, -1, -1_000_000)),
            ("1 days 3.000000 seconds", is(0, 1, 3_000_000)),
            ("0 year 0 mons 1 days 0 hours 0 mins 0.0 secs", is(0, 1, 0)),
            ("P1DT2H", is(0, 1, 7_200_000_000)),
            ("PT0.5S", is(0, 0, 500_000)),
            ("P1Y2M", is(14, 0, 0)),
            ("@ 5 mins ago", is(0, 0, -300_000_000)),
            ("1.5 days", is(0, 1, 43_200_000_000)),
            ("90", is(0, 0, 90_000_000)),
            ("2 weeks, 3 hours", is(0, 14, 10_800_000_000)),
            ("1h30m", is(0, 0, 5_400_000_000)),
        ] {
            assert_eq!(plain(text), expected, "{text}");
        }
        for text in ["", "yesterday", "1 fortnight", "1:2:3:4", "P", "1 day x", "PxD"] {
            assert_eq!(plain(text), None, "{text}");
        }
    }
}
