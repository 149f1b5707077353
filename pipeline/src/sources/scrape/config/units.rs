//! Durations, sizes and other values as Prometheus writes them.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

/// A duration such as `15s`, `1m30s`, `1h`, `0`; units from years to milliseconds, each once, in that order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PromDuration(pub Duration);

/// Units by length, longest first, in milliseconds.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

impl PromDuration {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a duration; write 15s, 1m30s or 500ms");
        if text == "0" {
            return Ok(Self(Duration::ZERO));
        }
        let (mut rest, mut next, mut total_ms) = (text, 0, 0u64);
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
            rest = &rest[digits..];
            let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            let at = UNITS.iter().position(|(unit, _)| *unit == &rest[..letters]).filter(|at| *at >= next);
            let at = at.ok_or_else(wrong)?;
            total_ms = number.checked_mul(UNITS[at].1).and_then(|ms| total_ms.checked_add(ms)).ok_or_else(wrong)?;
            (rest, next) = (&rest[letters..], at + 1);
        }
        if next == 0 { Err(wrong()) } else { Ok(Self(Duration::from_millis(total_ms))) }
    }

    /// In milliseconds.
    pub fn as_ms(self) -> i64 {
        i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX)
    }
}

impl fmt::Display for PromDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if ms == 0 {
            return f.write_str("0s");
        }
        for (unit, size_ms) in UNITS {
            // As Prometheus does: years, weeks and days only where nothing is left over.
            let whole = matches!(unit, "y" | "w" | "d");
            if ms >= size_ms && (!whole || ms % size_ms == 0) {
                write!(f, "{}{unit}", ms / size_ms)?;
                ms %= size_ms;
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for PromDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text::deserialize(deserializer)?;
        Self::parse(&text.0).map_err(de::Error::custom)
    }
}

/// A size such as `10MB` or `512KiB`: all units are powers of 1024, as in Prometheus. 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size(pub usize);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text::deserialize(deserializer)?.0;
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let shift = match &text[digits..] {
            "" | "B" => 0,
            "KB" | "KiB" => 10,
            "MB" | "MiB" => 20,
            "GB" | "GiB" => 30,
            "TB" | "TiB" => 40,
            _ => return Err(de::Error::custom(format!("{text:?} is not a size; write 10MB"))),
        };
        let bytes = text[..digits].parse::<usize>().ok().and_then(|number| number.checked_mul(1 << shift));
        bytes.map(Self).ok_or_else(|| de::Error::custom(format!("{text:?} is not a size; write 10MB")))
    }
}

/// A scalar as it is written: YAML reads `0` and `8080` as numbers, and label values are texts all the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Text(pub String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;
        impl Visitor<'_> for Scalar {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number or a boolean")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Text, E> {
                Ok(Text(value.to_string()))
            }

            fn visit_unit<E: de::Error>(self) -> Result<Text, E> {
                Ok(Text::default())
            }
        }
        deserializer.deserialize_any(Scalar)
    }
}

/// A secret: written in the file, never printed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Hidden(pub String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Text::deserialize(deserializer).map(|text| Self(text.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_prometheus_durations() {
        for (text, ms) in
            [("0", 0), ("15s", 15_000), ("1m30s", 90_000), ("500ms", 500), ("1h", 3_600_000), ("1d12h", 129_600_000)]
        {
            assert_eq!(PromDuration::parse(text).unwrap().as_ms(), ms, "{text}");
        }
        for bad in ["", "15", "s", "1s1m", "1m 30s", "-1s", "1.5s", "1s1s", "99999999999999y"] {
            assert!(PromDuration::parse(bad).is_err(), "{bad}");
        }
        for text in ["15s", "1m30s", "500ms", "1h", "36h", "0s", "1w"] {
            let back = PromDuration::parse(if text == "0s" { "0" } else { text }).unwrap().to_string();
            assert_eq!(back, if text == "36h" { "36h" } else { text });
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        let size = |text: &str| serde_saphyr::from_str::<Size>(text).map(|size| size.0).map_err(|e| e.to_string());
        assert_eq!((size("10MB").unwrap(), size("1KiB").unwrap(), size("0").unwrap()), (10 << 20, 1024, 0));
        assert!(size("10 parsecs").unwrap_err().contains("is not a size"));
    }
}
