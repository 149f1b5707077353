//! The columns of metric rows, from files (texts as dictionaries) and from the tail (plain texts) alike.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow::error::ArrowError;
use highwater_pipeline::data::identity;

pub(super) const TIMESTAMP: &str = "timestamp";
pub(super) const METRIC: &str = "name";
pub(super) const LABELS: &str = "labels";
pub(super) const SERIES_ID: &str = "series_id";
pub(super) const VALUE: &str = "value";
pub(super) const STALE: &str = "stale";
pub(super) const HISTOGRAM: &str = "histogram";
pub(super) const KIND: &str = "kind";

/// What is read to know which series there are.
pub(super) const OF_SERIES: [&str; 3] = [METRIC, LABELS, SERIES_ID];
/// What is read to know of which kind they are.
pub(super) const OF_KINDS: [&str; 2] = [METRIC, KIND];
/// What is read of samples.
pub(super) const OF_SAMPLES: [&str; 7] = [TIMESTAMP, METRIC, LABELS, SERIES_ID, VALUE, STALE, HISTOGRAM];
/// The same, and where they were in the log.
pub(super) const OF_ORDERED_SAMPLES: [&str; 8] =
    [TIMESTAMP, METRIC, LABELS, SERIES_ID, VALUE, STALE, HISTOGRAM, identity::OFFSET];

/// A column of texts.
#[derive(Debug)]
pub(super) enum Texts<'a> {
    Plain(&'a StringArray),
    Coded { codes: &'a Int32Array, texts: &'a StringArray },
}

impl<'a> Texts<'a> {
    pub(super) fn of(batch: &'a RecordBatch, name: &str) -> Result<Self, ArrowError> {
        let column = column(batch, name)?;
        if let Some(texts) = column.as_string_opt::<i32>() {
            return Ok(Self::Plain(texts));
        }
        let coded = column.as_dictionary_opt::<Int32Type>();
        let texts = coded.and_then(|coded| Some((coded, coded.values().as_string_opt::<i32>()?)));
        let (coded, texts) = texts.ok_or_else(|| not_a(name, "text", column))?;
        Ok(Self::Coded { codes: coded.keys(), texts })
    }

    /// The text of a row; no row lacks one.
    pub(super) fn get(&self, row: usize) -> &'a str {
        match self {
            Self::Plain(texts) => texts.value(row),
            Self::Coded { codes, texts } => texts.value(usize::try_from(codes.value(row)).unwrap_or_default()),
        }
    }

    /// The text of a row that may lack one.
    pub(super) fn get_nullable(&self, row: usize) -> Option<&'a str> {
        self.is_valid(row).then(|| self.get(row))
    }

    fn is_valid(&self, row: usize) -> bool {
        match self {
            Self::Plain(texts) => texts.is_valid(row),
            Self::Coded { codes, .. } => codes.is_valid(row),
        }
    }

    /// Whether two rows have one text, or none both. That they have is found out at once where texts are coded.
    pub(super) fn same(&self, a: usize, b: usize) -> bool {
        let same = match self {
            Self::Plain(texts) => texts.value(a) == texts.value(b),
            Self::Coded { codes, .. } => codes.value(a) == codes.value(b),
        };
        same && self.is_valid(a) == self.is_valid(b)
    }

    /// Which rows have a text that `test` likes.
    pub(super) fn select(&self, mut test: impl FnMut(&str) -> bool) -> BooleanArray {
        match self {
            Self::Plain(texts) => texts.iter().map(|text| Some(test(text.unwrap_or("")))).collect(),
            Self::Coded { codes, texts } => {
                let liked: Vec<bool> = texts.iter().map(|text| test(text.unwrap_or(""))).collect();
                let like = |code: &i32| usize::try_from(*code).ok().and_then(|code| liked.get(code)).copied();
                BooleanArray::from(codes.values().iter().map(|code| like(code).unwrap_or(false)).collect::<Vec<_>>())
            }
        }
    }
}

/// The series of each row.
#[derive(Debug)]
pub(super) struct SeriesColumns<'a> {
    ids: &'a Int64Array,
    names: Texts<'a>,
    labels: Texts<'a>,
}

impl<'a> SeriesColumns<'a> {
    pub(super) fn of(batch: &'a RecordBatch) -> Result<Self, ArrowError> {
        let ids = column(batch, SERIES_ID)?;
        let ids = ids.as_primitive_opt::<Int64Type>().ok_or_else(|| not_a(SERIES_ID, "64-bit number", ids))?;
        Ok(Self { ids, names: Texts::of(batch, METRIC)?, labels: Texts::of(batch, LABELS)? })
    }

    /// One past the last row of the run of rows of one series that begins at `row`.
    pub(super) fn run_end(&self, row: usize) -> usize {
        let ids = self.ids.values();
        let same = |other: usize| ids[other] == ids[row] && self.names.same(row, other) && self.labels.same(row, other);
        (row + 1..ids.len()).find(|&other| !same(other)).unwrap_or(ids.len())
    }

    /// Id, name and canonical labels of the series of a row.
    pub(super) fn get(&self, row: usize) -> (i64, &'a str, &'a str) {
        (self.ids.value(row), self.names.get(row), self.labels.get(row))
    }
}

/// The samples of each row.
#[derive(Debug)]
pub(super) struct SampleColumns<'a> {
    times_us: &'a [i64],
    values: &'a Float64Array,
    stale: &'a BooleanArray,
    /// None where no row has any.
    histograms: Option<&'a BinaryArray>,
    offsets: Option<&'a [i64]>,
}

impl<'a> SampleColumns<'a> {
    pub(super) fn of(batch: &'a RecordBatch, ordered: bool) -> Result<Self, ArrowError> {
        let values = column(batch, VALUE)?;
        let stale = column(batch, STALE)?;
        let histograms = batch.column_by_name(HISTOGRAM).and_then(|column| column.as_binary_opt::<i32>());
        let offsets = match ordered {
            true => {
                let offsets = column(batch, identity::OFFSET)?;
                let numbers = offsets.as_primitive_opt::<Int64Type>();
                Some(&**numbers.ok_or_else(|| not_a(identity::OFFSET, "64-bit number", offsets))?.values())
            }
            false => None,
        };
        Ok(Self {
            times_us: times_us(batch)?,
            values: values.as_primitive_opt::<Float64Type>().ok_or_else(|| not_a(VALUE, "64-bit float", values))?,
            histograms: histograms.filter(|column| column.null_count() < column.len()),
            stale: stale.as_boolean_opt().ok_or_else(|| not_a(STALE, "boolean", stale))?,
            offsets,
        })
    }

    pub(super) fn time_us(&self, row: usize) -> i64 {
        self.times_us[row]
    }

    /// The value of a row: the marker where the series is stale, `None` where the row has no float.
    pub(super) fn value(&self, row: usize) -> Option<f64> {
        if self.values.is_valid(row) {
            return Some(self.values.value(row));
        }
        self.stale.value(row).then_some(highwater_promql::STALE_NAN)
    }

    /// The message of a row's native histogram.
    pub(super) fn histogram(&self, row: usize) -> Option<&'a [u8]> {
        self.histograms.filter(|column| column.is_valid(row)).map(|column| column.value(row))
    }

    /// Where a row was in the log.
    pub(super) fn offset(&self, row: usize) -> Option<i64> {
        self.offsets.map(|offsets| offsets[row])
    }
}

/// The times of the rows, in microseconds.
pub(super) fn times_us(batch: &RecordBatch) -> Result<&[i64], ArrowError> {
    let times = column(batch, TIMESTAMP)?;
    let instants = times.as_primitive_opt::<TimestampMicrosecondType>();
    Ok(instants.ok_or_else(|| not_a(TIMESTAMP, "timestamp in microseconds", times))?.values())
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, ArrowError> {
    batch.column_by_name(name).ok_or_else(|| ArrowError::SchemaError(format!("there is no column {name}")))
}

fn not_a(name: &str, wanted: &str, found: &ArrayRef) -> ArrowError {
    ArrowError::SchemaError(format!("column {name} is no {wanted} but {}", found.data_type()))
}
