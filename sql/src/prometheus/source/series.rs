//! Series whose labels were read lately: each query comes across the same ones, and reading labels is most of what few samples cost.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use highwater_promql::{Labels, METRIC_NAME};
use parking_lot::Mutex;
use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};

/// Memory for series, bytes, more or less.
const KEPT_BYTES: usize = 64 << 20;
/// What a series takes beside its texts, and each label of it.
const SERIES_BYTES: usize = 128;
const LABEL_BYTES: usize = 64;

/// A series, read.
#[derive(Debug)]
pub(super) struct Parsed {
    /// The metric's name.
    pub(super) name: Box<str>,
    /// The other labels as they are stored.
    pub(super) text: Box<str>,
    /// All of them.
    pub(super) labels: Labels,
}

impl Parsed {
    pub(super) fn is(&self, name: &str, text: &str) -> bool {
        *self.text == *text && *self.name == *name
    }
}

/// Series in two generations: what is asked for goes into the young one, and once that is full the old one goes.
#[derive(Debug, Default)]
pub(in crate::prometheus) struct KnownSeries(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: Generation,
    old: Generation,
}

#[derive(Debug, Default)]
struct Generation {
    by_id: HashMap<i64, Arc<Parsed>, ahash::RandomState>,
    texts: HashSet<Arc<str>, ahash::RandomState>,
    size_bytes: usize,
}

impl KnownSeries {
    /// The labels of a series: its id, its name, and its other labels as canonical JSON.
    ///
    /// # Errors
    /// Where these are no object of strings.
    pub(super) fn get(&self, id: i64, name: &str, text: &str) -> Result<Arc<Parsed>, serde_json::Error> {
        let mut generations = self.0.lock();
        if let Some(known) = generations.young.by_id.get(&id).filter(|known| known.is(name, text)) {
            return Ok(Arc::clone(known));
        }
        // Of two series of one id the one that was asked for last is kept.
        let known = match generations.old.by_id.remove(&id).filter(|known| known.is(name, text)) {
            Some(known) => known,
            None => Arc::new(generations.parse(name, text)?),
        };
        let size_bytes = SERIES_BYTES + name.len() + text.len() + LABEL_BYTES * known.labels.len();
        if generations.young.size_bytes + size_bytes > KEPT_BYTES / 2 {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.size_bytes += size_bytes;
        generations.young.by_id.insert(id, Arc::clone(&known));
        Ok(known)
    }
}

impl Generations {
    fn parse(&mut self, name: &str, text: &str) -> Result<Parsed, serde_json::Error> {
        let mut reader = serde_json::Deserializer::from_str(text);
        let metric_name = (self.text(METRIC_NAME), self.text(name));
        let mut labels = reader.deserialize_map(Pairs(self))?;
        // The others are sorted as a rule.
        let at = labels.partition_point(|(label, _)| **label < *METRIC_NAME);
        labels.insert(at, metric_name);
        Ok(Parsed { name: name.into(), text: text.into(), labels: Labels::new(labels) })
    }

    /// The one copy of a text.
    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(kept) = self.young.texts.get(text) {
            return Arc::clone(kept);
        }
        let kept = self.old.texts.get(text).map_or_else(|| Arc::from(text), Arc::clone);
        self.young.size_bytes += text.len();
        self.young.texts.insert(Arc::clone(&kept));
        kept
    }
}

/// Reads an object of strings.
struct Pairs<'a>(&'a mut Generations);

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
            labels.push((self.0.text(&name), self.0.text(&value)));
        }
        Ok(labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_read_once() {
        let known = KnownSeries::default();
        let first = known.get(7, "up", r#"{"A":"x","job":"a"}"#).unwrap();
        assert_eq!(first.labels.to_string(), r#"up{A="x", job="a"}"#);
        assert!(Arc::ptr_eq(&first, &known.get(7, "up", r#"{"A":"x","job":"a"}"#).unwrap()));
        // Another of the same id.
        assert_eq!(known.get(7, "up", r#"{"job":"b"}"#).unwrap().labels.to_string(), r#"up{job="b"}"#);
        assert_eq!(known.get(7, "up", r#"{"A":"x","job":"a"}"#).unwrap().labels, first.labels);
        assert!(known.get(8, "up", "[]").is_err());
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_is_used_stays() {
        let known = KnownSeries::default();
        let long = "x".repeat(4_000);
        let used = known.get(-1, "used", "{}").unwrap();
        for id in 0..20_000 {
            known.get(id, "m", &format!(r#"{{"id":"{id}","long":"{long}"}}"#)).unwrap();
            assert!(Arc::ptr_eq(&used, &known.get(-1, "used", "{}").unwrap()));
        }
        let generations = known.0.lock();
        let held: usize = [&generations.young, &generations.old].iter().map(|one| one.by_id.len()).sum();
        assert!(held * 4_000 <= KEPT_BYTES, "{held} series");
    }
}
