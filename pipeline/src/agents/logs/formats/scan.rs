//! Reading numbers, dates and times off the head of a line, and putting them together to an instant.

use chrono::{Datelike, NaiveDate};

use super::Context;

/// Zones are up to 14 hours ahead of UTC, so a line in local time may seem that far in the future.
const ZONES_APART_US: i64 = 14 * 3600 * 1_000_000;
/// The 29th of February needs up to eight years to come again.
const YEARS_BACK: i32 = 8;

/// A cursor over a line. Every method returns `None` where the bytes do not fit; the cursor is of no use after that.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scan<'a> {
    text: &'a str,
    at: usize,
}

/// A time of day. A leap second (60) is the next minute's first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Time {
    micros: i64,
}

impl<'a> Scan<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// What has not been read.
    pub(super) fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    pub(super) fn byte(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// The byte, if it is next.
    pub(super) fn accept(&mut self, byte: u8) -> bool {
        self.byte(byte).is_some()
    }

    pub(super) fn spaces(&mut self) {
        while self.accept(b' ') {}
    }

    /// Exactly `count` digits.
    pub(super) fn digits(&mut self, count: usize) -> Option<u32> {
        let bytes = self.text.as_bytes().get(self.at..self.at + count)?;
        let mut value = 0;
        for byte in bytes {
            value = value * 10 + u32::from(byte.checked_sub(b'0').filter(|digit| *digit < 10)?);
        }
        self.at += count;
        Some(value)
    }

    /// One to nine digits.
    pub(super) fn number(&mut self) -> Option<u32> {
        let bytes = self.text.as_bytes().get(self.at..)?;
        let count = bytes.iter().take(9).take_while(|byte| byte.is_ascii_digit()).count();
        (count > 0).then(|| self.digits(count))?
    }

    /// A day of the month: two digits, or one, perhaps after a space.
    pub(super) fn day(&mut self) -> Option<u32> {
        self.accept(b' ');
        let start = self.at;
        let day = self.number()?;
        (self.at - start <= 2).then_some(day)
    }

    /// `Jan` to `Dec`.
    pub(super) fn month_name(&mut self) -> Option<u32> {
        let name = self.text.as_bytes().get(self.at..self.at + 3)?;
        let month = match name {
            b"Jan" => 1,
            b"Feb" => 2,
            b"Mar" => 3,
            b"Apr" => 4,
            b"May" => 5,
            b"Jun" => 6,
            b"Jul" => 7,
            b"Aug" => 8,
            b"Sep" => 9,
            b"Oct" => 10,
            b"Nov" => 11,
            b"Dec" => 12,
            _ => return None,
        };
        self.at += 3;
        Some(month)
    }

    /// `HH:MM:SS` with an optional fraction after `.` or `,`.
    pub(super) fn time(&mut self) -> Option<Time> {
        let hour = self.digits(2)?;
        self.byte(b':')?;
        let minute = self.digits(2)?;
        self.byte(b':')?;
        let second = self.digits(2)?;
        Time::of(hour, minute, second, self.fraction())
    }

    /// `.123` or `,123` as microseconds; 0 where there is none. More than six digits are cut.
    fn fraction(&mut self) -> u32 {
        let bytes = self.text.as_bytes();
        let followed = bytes.get(self.at + 1).is_some_and(u8::is_ascii_digit);
        if !followed || !matches!(self.peek(), Some(b'.' | b',')) {
            return 0;
        }
        self.at += 1;
        let mut micros = 0;
        let mut unit = 100_000;
        while let Some(digit) = self.peek().filter(u8::is_ascii_digit) {
            micros += u32::from(digit - b'0') * unit;
            unit /= 10;
            self.at += 1;
        }
        micros
    }

    /// `Z`, `UTC`, `GMT`, `+02:00`, `+0200`, `+02`, perhaps after a space: seconds east of UTC. Where none of these
    /// comes, nothing is read.
    pub(super) fn zone(&mut self) -> Option<i32> {
        let mut ahead = *self;
        ahead.accept(b' ');
        let offset_s = ahead.zone_here()?;
        // `-05 text` after a space may be a zone, `-05x` is not.
        if ahead.peek().is_some_and(|next| next.is_ascii_alphanumeric()) {
            return None;
        }
        *self = ahead;
        Some(offset_s)
    }

    fn zone_here(&mut self) -> Option<i32> {
        let rest = self.rest();
        for name in ["Z", "UTC", "GMT"] {
            if rest.starts_with(name) {
                self.at += name.len();
                return Some(0);
            }
        }
        let east = match self.peek()? {
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        self.at += 1;
        let hours = self.digits(2)?;
        let mut ahead = *self;
        let colon = ahead.accept(b':');
        let minutes = match ahead.digits(2) {
            Some(minutes) => {
                *self = ahead;
                minutes
            }
            None if colon => return None,
            None => 0,
        };
        (hours <= 18 && minutes < 60).then(|| east * i32::try_from(hours * 3600 + minutes * 60).unwrap_or(0))
    }

    /// `2015-07-29 17:41:44,747`, with `T`, space or `:` (Go, Hadoop) between; `.`, `,` or nothing for the fraction;
    /// zone or none.
    pub(super) fn iso(&mut self, context: &Context) -> Option<i64> {
        let year = self.digits(4)?;
        self.byte(b'-')?;
        let month = self.digits(2)?;
        self.byte(b'-')?;
        let day = self.digits(2)?;
        if !(self.accept(b'T') || self.accept(b' ') || self.accept(b't') || self.accept(b'_')) {
            return None;
        }
        let time = self.time()?;
        let zone = self.zone();
        instant(i32::try_from(year).ok()?, month, day, time, zone, context)
    }
}

impl Time {
    pub(super) fn of(hour: u32, minute: u32, second: u32, micros: u32) -> Option<Self> {
        if hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let seconds = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
        Some(Self { micros: seconds * 1_000_000 + i64::from(micros) })
    }
}

/// The instant of a full date, Unix microseconds; without a zone in the one that `context` names.
pub(super) fn instant(
    year: i32,
    month: u32,
    day: u32,
    time: Time,
    zone_s: Option<i32>,
    context: &Context,
) -> Option<i64> {
    let days = NaiveDate::from_ymd_opt(year, month, day)?.signed_duration_since(NaiveDate::default()).num_days();
    let offset_s = i64::from(zone_s.unwrap_or(context.dates.utc_offset_s));
    Some((days * 86_400 - offset_s) * 1_000_000 + time.micros)
}

/// The instant of a date without a year: in the year that `context` names, else the latest that is not in the future.
pub(super) fn latest(month: u32, day: u32, time: Time, context: &Context) -> Option<i64> {
    if let Some(year) = context.dates.year {
        return instant(year, month, day, time, None, context);
    }
    let latest_us = context.now_us.saturating_add(ZONES_APART_US);
    let this_year = chrono::DateTime::from_timestamp_micros(latest_us)?.year();
    (0..=YEARS_BACK)
        .filter_map(|back| instant(this_year - back, month, day, time, None, context))
        .find(|instant_us| *instant_us <= latest_us)
}

/// The text behind a terminal's colour codes at its start.
pub(super) fn after_colour(text: &str) -> &str {
    let mut rest = text;
    while let Some(code) = rest.strip_prefix("\x1b[") {
        let Some(end) = code.find('m').filter(|end| *end <= 12) else { return rest };
        rest = code[end + 1..].trim_start();
    }
    rest
}
