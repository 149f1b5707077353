//! The series that a scan has come across: each parsed and matched once, however many files and rows it is in.
//!
//! A series is known by its id, the hash of its canonical text; the text itself is compared as well, so that two series of one id stay two.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use highwater_promql::Labels;
use parking_lot::Mutex;
use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};

use super::{ReadError, Wanted};

/// Shared by all that read for one scan.
#[derive(Debug)]
pub(super) struct Catalogue {
    wanted: Arc<Wanted>,
    known: Mutex<Known>,
    /// Series that may be wanted; one more is an error.
    max_series: usize,
}

#[derive(Debug, Default)]
struct Known {
    by_id: HashMap<i64, u32, ahash::RandomState>,
    series: Vec<Known1>,
    /// How many of them are wanted.
    wanted: usize,
    symbols: HashSet<Arc<str>, ahash::RandomState>,
}

/// A series: its text, and its labels where it is wanted.
#[derive(Debug)]
struct Known1 {
    name: Box<str>,
    text: Box<str>,
    labels: Option<Labels>,
}

impl Catalogue {
    pub(super) fn new(wanted: Arc<Wanted>, max_series: usize) -> Self {
        Self { wanted, known: Mutex::default(), max_series }
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
            if *found.text == *text && *found.name == *name {
                return Ok(found.labels.is_some().then_some(place));
            }
            // Another series has this id: the next free one is as good.
            key = key.wrapping_add(1);
        }
        let labels = if self.wanted.has_name(name) { Some(known.parse(name, text)?) } else { None };
        let labels = labels.filter(|labels| self.wanted.has_series(labels));
        if labels.is_some() {
            known.wanted += 1;
            if known.wanted > self.max_series {
                return Err(ReadError::TooManySeries { limit: self.max_series });
            }
        }
        let place =
            u32::try_from(known.series.len()).map_err(|_| ReadError::TooManySeries { limit: self.max_series })?;
        let is_wanted = labels.is_some();
        known.series.push(Known1 { name: name.into(), text: text.into(), labels });
        known.by_id.insert(key, place);
        Ok(is_wanted.then_some(place))
    }

    /// The labels at each place; `None` for series not wanted.
    pub(super) fn into_labels(self) -> Vec<Option<Labels>> {
        self.known.into_inner().series.into_iter().map(|series| series.labels).collect()
    }
}

impl Known {
    fn parse(&mut self, name: &str, text: &str) -> Result<Labels, ReadError> {
        let broken = |e: serde_json::Error| ReadError::labels(name, text, &e.to_string());
        let mut reader = serde_json::Deserializer::from_str(text);
        let mut labels = reader.deserialize_map(Pairs(self)).map_err(broken)?;
        labels.push((self.symbol("__name__"), self.symbol(name)));
        Ok(Labels::new(labels))
    }

    /// The one copy of a text.
    fn symbol(&mut self, text: &str) -> Arc<str> {
        if let Some(kept) = self.symbols.get(text) {
            return Arc::clone(kept);
        }
        let symbol: Arc<str> = Arc::from(text);
        self.symbols.insert(Arc::clone(&symbol));
        symbol
    }
}

/// Reads an object of strings.
struct Pairs<'a>(&'a mut Known);

impl<'de> Visitor<'de> for Pairs<'_> {
    type Value = Vec<(Arc<str>, Arc<str>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        use std::borrow::Cow;

        /// Borrowed where nothing is escaped.
        #[derive(serde::Deserialize)]
        struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

        let mut labels = Vec::with_capacity(12);
        while let Some((Text(name), Text(value))) = map.next_entry::<Text<'de>, Text<'de>>()? {
            labels.push((self.0.symbol(&name), self.0.symbol(&value)));
        }
        Ok(labels)
    }
}

#[cfg(test)]
mod tests {
    use highwater_promql::Matcher;

    use super::*;

    fn catalogue(matchers: &[Matcher], max_series: usize) -> Catalogue {
        Catalogue::new(Arc::new(Wanted::new([matchers], 0, 0).unwrap()), max_series)
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
