//! The series that a scan has come across: each matched once, however many files and rows it is in.
//!
//! A series is known by its id, the hash of its canonical text; the text itself is compared as well, so that two series of one id stay two.

use std::collections::HashMap;
use std::sync::Arc;

use highwater_promql::Labels;
use parking_lot::Mutex;

use super::series::{KnownSeries, Parsed};
use super::{ReadError, Wanted};

/// Shared by all that read for one scan.
#[derive(Debug)]
pub(super) struct Catalogue {
    wanted: Arc<Wanted>,
    known_series: Arc<KnownSeries>,
    known: Mutex<Known>,
    /// Series that may be wanted; one more is an error.
    max_series: usize,
}

#[derive(Debug, Default)]
struct Known {
    by_id: HashMap<i64, u32, ahash::RandomState>,
    series: Vec<Found>,
    /// How many of them are wanted.
    wanted: usize,
}

/// A series that was come across.
#[derive(Debug)]
enum Found {
    Wanted(Arc<Parsed>),
    /// Its labels were looked at.
    Unwanted(Arc<Parsed>),
    /// Its name was enough.
    OtherName {
        name: Box<str>,
        text: Box<str>,
    },
}

impl Found {
    fn is(&self, name: &str, text: &str) -> bool {
        match self {
            Self::Wanted(known) | Self::Unwanted(known) => known.is(name, text),
            Self::OtherName { name: other, text: others } => **others == *text && **other == *name,
        }
    }
}

impl Catalogue {
    pub(super) fn new(wanted: Arc<Wanted>, known_series: Arc<KnownSeries>, max_series: usize) -> Self {
        Self { wanted, known_series, known: Mutex::default(), max_series }
    }

    /// The place of this series among [`Self::into_labels`]; `None` where it is not wanted.
    ///
    /// # Errors
    /// Where its labels are no object of strings, or where it is one series too many.
    pub(super) fn place(&self, id: i64, name: &str, text: &str) -> Result<Option<u32>, ReadError> {
        let mut known = self.known.lock();
        let mut key = id;
        while let Some(&place) = known.by_id.get(&key) {
            let found = &known.series[place as usize];
            if found.is(name, text) {
                return Ok(matches!(found, Found::Wanted(_)).then_some(place));
            }
            // Another series has this id: the next free one is as good.
            key = key.wrapping_add(1);
        }
        let found = if self.wanted.has_name(name) {
            let parsed = self.known_series.get(id, name, text);
            let parsed = parsed.map_err(|e| ReadError::labels(name, text, &e.to_string()))?;
            if self.wanted.has_series(&parsed.labels) { Found::Wanted(parsed) } else { Found::Unwanted(parsed) }
        } else {
            Found::OtherName { name: name.into(), text: text.into() }
        };
        let is_wanted = matches!(found, Found::Wanted(_));
        if is_wanted {
            known.wanted += 1;
            if known.wanted > self.max_series {
                return Err(ReadError::TooManySeries { limit: self.max_series });
            }
        }
        let place =
            u32::try_from(known.series.len()).map_err(|_| ReadError::TooManySeries { limit: self.max_series })?;
        known.series.push(found);
        known.by_id.insert(key, place);
        Ok(is_wanted.then_some(place))
    }

    /// The labels at each place; `None` for series not wanted.
    pub(super) fn into_labels(self) -> Vec<Option<Labels>> {
        let labels = |found| match found {
            Found::Wanted(known) => Some(known.labels.clone()),
            Found::Unwanted(_) | Found::OtherName { .. } => None,
        };
        self.known.into_inner().series.into_iter().map(labels).collect()
    }
}

#[cfg(test)]
mod tests {
    use highwater_promql::Matcher;

    use super::*;

    fn catalogue(matchers: &[Matcher], max_series: usize) -> Catalogue {
        Catalogue::new(Arc::new(Wanted::new([matchers], 0, 0).unwrap()), Arc::default(), max_series)
    }

    #[test]
    fn a_series_is_found_again_and_one_not_wanted_has_no_place() {
        let catalogue = catalogue(&[Matcher::equal("job", "a")], 10);
        assert_eq!(catalogue.place(7, "up", r#"{"job":"a"}"#).unwrap(), Some(0));
        assert_eq!(catalogue.place(8, "up", r#"{"job":"b"}"#).unwrap(), None);
        assert_eq!(catalogue.place(9, "up", r#"{"job":"a","x":"\"ü\""}"#).unwrap(), Some(2));
        assert_eq!(catalogue.place(7, "up", r#"{"job":"a"}"#).unwrap(), Some(0));
        assert_eq!(catalogue.place(8, "up", r#"{"job":"b"}"#).unwrap(), None);
        let labels = catalogue.into_labels();
        assert_eq!(labels[0].as_ref().unwrap().to_string(), r#"up{job="a"}"#);
        assert_eq!(labels[1], None);
        assert_eq!(labels[2].as_ref().unwrap().to_string(), r#"up{job="a", x="\"ü\""}"#);
    }

    #[test]
    fn two_series_of_one_id_stay_two() {
        let catalogue = catalogue(&[], 10);
        let first = catalogue.place(7, "up", r#"{"job":"a"}"#).unwrap();
        let second = catalogue.place(7, "up", r#"{"job":"b"}"#).unwrap();
        let neighbour = catalogue.place(8, "up", r#"{"job":"c"}"#).unwrap();
        assert_eq!((first, second, neighbour), (Some(0), Some(1), Some(2)));
        assert_eq!(catalogue.place(7, "up", r#"{"job":"b"}"#).unwrap(), Some(1));
        assert_eq!(catalogue.place(8, "up", r#"{"job":"c"}"#).unwrap(), Some(2));
    }

    #[test]
    fn one_series_too_many_is_an_error() {
        let catalogue = catalogue(&[], 1);
        assert!(catalogue.place(1, "a", "{}").is_ok());
        assert!(matches!(catalogue.place(2, "b", "{}"), Err(ReadError::TooManySeries { limit: 1 })));
    }

    #[test]
    fn labels_that_are_none_are_an_error() {
        for text in ["", "[]", r#"{"a":1}"#, r#"{"a":"b""#] {
            let refused = catalogue(&[], 1).place(1, "a", text);
            assert!(matches!(refused, Err(ReadError::Sql(_))), "{text}");
        }
    }
}
