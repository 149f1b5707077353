//! One series after another: its labels to canonical text, once; its samples to rows.

use twox_hash::XxHash64;

use crate::data::histogram::{self, STALE_NAN, When};
use crate::data::labels::{self, NAME};
use crate::data::metrics::{MetricParts, Metrics, Sample};
use crate::data::protobuf::{Fields, WireError};
use crate::data::{Refusal, time};
use crate::sources::batcher::Dealer;
use crate::sources::metadata::Described;

/// What became of a request, beside its rows.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) samples: u64,
    pub(super) histograms: u64,
    /// Samples and histograms that are refused.
    pub(super) refused: u64,
    /// What metrics are, where it says so.
    pub(super) metadata: Vec<Described>,
}

/// Where the parts of a series are that the two protocols number differently.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) histograms: u32,
    pub(super) exemplars: u32,
}

/// The field of samples in both.
const SAMPLES: u32 = 2;

/// The labels of one series, in use for one after the other.
#[derive(Debug, Default)]
pub(super) struct Labels<'a> {
    pairs: Vec<(&'a [u8], &'a [u8])>,
    text: Vec<u8>,
}

/// A series whose labels are whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct Series<'t> {
    pub(super) name: &'t str,
    /// Canonical text with the name.
    text: &'t str,
    /// Canonical text without, in pieces.
    labels: [&'t str; 2],
    job: Option<&'t str>,
    instance: Option<&'t str>,
    service: Option<&'t str>,
}

impl<'a> Labels<'a> {
    pub(super) fn clear(&mut self) {
        self.pairs.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.pairs.len()
    }

    pub(super) fn push(&mut self, name: &'a [u8], value: &'a [u8]) {
        self.pairs.push((name, value));
    }

    /// Sorts the labels if their sender did not, checks them, and writes their canonical text.
    pub(super) fn series(&mut self, dealer: &Dealer<'_, Metrics>) -> Result<Series<'_>, Refusal> {
        let limits = dealer.limits();
        if self.pairs.len() > limits.max_attributes {
            return Err(Refusal::TooMany { what: "labels", limit: limits.max_attributes });
        }
        if !self.pairs.is_sorted_by(|(a, _), (b, _)| a < b) {
            self.pairs.sort_by_key(|(name, _)| *name);
            if let Some(twice) = self.pairs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
                return Err(Refusal::Repeated { label: Refusal::excerpt(&String::from_utf8_lossy(twice[0].0)) });
            }
        }
        self.text.clear();
        self.text.push(b'{');
        let (mut name, mut job, mut instance, mut service): (&[u8], Found<'a>, Found<'a>, Found<'a>) =
            (&[], None, None, None);
        // Where the name's member is, with the comma that goes with it.
        let (mut name_from, mut name_to) = (1, 1);
        for &(label, value) in &self.pairs {
            limits.label(label.len(), value.len(), || Refusal::excerpt(&String::from_utf8_lossy(label)))?;
            if label.is_empty() {
                return Err(Refusal::Empty { field: "label name" });
            }
            // A label with an empty value is no label.
            if value.is_empty() {
                continue;
            }
            let from = self.text.len();
            if from > 1 {
                self.text.push(b',');
            }
            labels::write_bytes(label, &mut self.text);
            self.text.push(b':');
            labels::write_bytes(value, &mut self.text);
            match label {
                b"__name__" => (name, name_from, name_to) = (value, from, self.text.len()),
                b"job" => job = Some(value),
                b"instance" => instance = Some(value),
                b"service" => service = Some(value),
                b"service.name" if service.is_none() => service = Some(value),
                b"service_name" if service.is_none() => service = Some(value),
                _ => {}
            }
        }
        self.text.push(b'}');
        if name.is_empty() {
            return Err(Refusal::Missing { field: NAME });
        }
        // Behind the first member there is no comma before it, but one after.
        if name_from == 1 && self.text.get(name_to) == Some(&b',') {
            name_to += 1;
        }
        // What was written between the labels is ASCII: the whole is UTF-8 where each of them is.
        let not_utf8 = |_| Refusal::NotText { field: "labels" };
        let text = std::str::from_utf8(&self.text).map_err(not_utf8)?;
        let part = |bytes: Option<&'a [u8]>| bytes.map(std::str::from_utf8).transpose().map_err(not_utf8);
        Ok(Series {
            name: part(Some(name))?.unwrap_or_default(),
            text,
            labels: [&text[..name_from], &text[name_to..]],
            job: part(job)?,
            instance: part(instance)?,
            service: part(service)?,
        })
    }
}

type Found<'a> = Option<&'a [u8]>;

#[cfg(test)]
impl<'t> Series<'t> {
    pub(super) fn text(&self) -> &'t str {
        self.text
    }

    pub(super) fn labels_text(&self) -> String {
        self.labels.concat()
    }
}

/// What rows of a series have in common beside its labels.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Common {
    /// Index of the series in the request.
    pub(super) index: i32,
    pub(super) kind: Option<&'static str>,
    pub(super) start_timestamp_us: Option<i64>,
}

/// Adds the samples and histograms of a series; `fields` is its message, or what follows its labels.
pub(super) fn add(
    series: &Series<'_>,
    common: Common,
    fields: Fields<'_>,
    shape: Shape,
    dealer: &mut Dealer<'_, Metrics>,
    written: &mut Written,
) -> Result<(), WireError> {
    let partition = dealer.partition(|key| key.extend_from_slice(series.text.as_bytes()));
    let mut parts = MetricParts {
        timestamp_us: None,
        start_timestamp_us: None,
        name: series.name,
        kind: common.kind,
        sample: Sample::Stale,
        labels: series.labels,
        job: series.job,
        instance: series.instance,
        service: series.service,
        series_id: XxHash64::oneshot(0, series.text.as_bytes()).cast_signed(),
        temporality: None,
    };
    for field in fields {
        let field = field?;
        let (sample, at) = if field.number == SAMPLES {
            let (value, at) = value(field.bytes()?)?;
            let stale = value.to_bits() == STALE_NAN;
            (if stale { Sample::Stale } else { Sample::Value(value) }, at)
        } else if field.number == shape.histograms {
            let bytes = field.bytes()?;
            match checked(bytes, dealer.limits().max_value_size_bytes)? {
                Ok(checked) if checked.stale => (Sample::Stale, checked.at),
                Ok(checked) => (Sample::Histogram(bytes), checked.at),
                Err(refusal) => {
                    dealer.refuse(common.index, &refusal, 1);
                    written.refused += 1;
                    continue;
                }
            }
        } else {
            continue;
        };
        let Some(timestamp_us) = instant_us(at.timestamp_ms) else {
            let value = at.timestamp_ms.to_string();
            dealer.refuse(common.index, &Refusal::BadValue { field: "timestamp", value, wanted: time::WANTED }, 1);
            written.refused += 1;
            continue;
        };
        parts.timestamp_us = Some(timestamp_us);
        parts.start_timestamp_us = start_us(at.start_timestamp_ms).or(common.start_timestamp_us);
        parts.sample = sample;
        dealer.add(partition, |columns| columns.append_parts(&parts));
        if field.number == SAMPLES {
            written.samples += 1
        } else {
            written.histograms += 1
        }
        if dealer.is_failed() {
            return Ok(());
        }
    }
    Ok(())
}

fn checked(message: &[u8], limit_bytes: usize) -> Result<Result<histogram::Checked, Refusal>, WireError> {
    if message.len() > limit_bytes {
        let (field, size_bytes) = ("histogram".to_owned(), message.len());
        return Ok(Err(Refusal::TooLong { field, size_bytes, limit_bytes }));
    }
    Ok(histogram::check(message)?.map_err(|reason| Refusal::Histogram { reason }))
}

fn value(message: &[u8]) -> Result<(f64, When), WireError> {
    let (mut value, mut at) = (0.0, When::default());
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            1 => value = field.double()?,
            2 => at.timestamp_ms = field.int64()?,
            3 => at.start_timestamp_ms = field.int64()?,
            _ => {}
        }
    }
    Ok((value, at))
}

/// Unix milliseconds as microseconds, where that is a time that is stored.
fn instant_us(unix_ms: i64) -> Option<i64> {
    unix_ms.checked_mul(1_000).filter(|&us| time::in_range(us))
}

/// The start of a series; 0 says "not known".
pub(super) fn start_us(unix_ms: i64) -> Option<i64> {
    instant_us(unix_ms).filter(|&us| us != 0)
}

/// How many samples, histograms and exemplars a series has.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) samples: u64,
    pub(super) histograms: u64,
    pub(super) exemplars: u64,
}

impl Counts {
    /// Counts a field, if it is one of these.
    pub(super) fn take(&mut self, number: u32, shape: Shape) -> bool {
        let count = match number {
            SAMPLES => &mut self.samples,
            _ if number == shape.histograms => &mut self.histograms,
            _ if number == shape.exemplars => &mut self.exemplars,
            _ => return false,
        };
        *count += 1;
        true
    }

    /// Rows the series would be.
    pub(super) fn rows(self) -> u64 {
        self.samples + self.histograms
    }
}
