//! A file's statistics as Delta keeps them: `{"numRecords", "minValues", "maxValues", "nullCount"}`.
//!
//! Minima and maxima come from the Parquet footer that was just written (long text shortened there, downwards for the minimum and upwards
//! for the maximum). A column whose floats include NaN or an infinity has none: JSON has no such numbers, and a bound that leaves them
//! out would let a reader skip a file that holds them. Booleans, binary and nested columns have a null count only.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type, SchemaRef, TimeUnit};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;
use serde_json::{Map, Value, json};

/// What is gathered of a file's rows as they are written.
pub(super) struct FileStats {
    schema: SchemaRef,
    rows: usize,
    /// By column.
    nulls: Vec<usize>,
    /// By column: whether its bounds may be told.
    bounded: Vec<bool>,
}

impl FileStats {
    pub(super) fn new(schema: &SchemaRef) -> Self {
        let columns = schema.fields().len();
        Self { schema: SchemaRef::clone(schema), rows: 0, nulls: vec![0; columns], bounded: vec![true; columns] }
    }

    pub(super) fn add(&mut self, rows: &RecordBatch) {
        self.rows += rows.num_rows();
        for ((column, nulls), bounded) in rows.columns().iter().zip(&mut self.nulls).zip(&mut self.bounded) {
            *nulls += column.null_count();
            *bounded = *bounded && has_bounds(column);
        }
    }

    /// The statistics of the file that holds exactly these rows and has this footer.
    pub(super) fn to_json(&self, footer: &ParquetMetaData) -> String {
        let (mut min_values, mut max_values, mut null_count) = (Map::new(), Map::new(), Map::new());
        for ((field, nulls), bounded) in self.schema.fields().iter().zip(&self.nulls).zip(&self.bounded) {
            null_count.insert(field.name().clone(), json!(nulls));
            if !bounded {
                continue;
            }
            let Some(leaf) = leaf_of(footer, field.name()) else { continue };
            if let Some((min, max)) = bounds(footer, leaf, field.data_type()) {
                min_values.insert(field.name().clone(), min);
                max_values.insert(field.name().clone(), max);
            }
        }
        json!({
            "numRecords": self.rows, "minValues": min_values, "maxValues": max_values, "nullCount": null_count,
        })
        .to_string()
    }
}

fn has_bounds(column: &ArrayRef) -> bool {
    match column.data_type() {
        DataType::Float64 => column.as_primitive::<Float64Type>().iter().flatten().all(f64::is_finite),
        DataType::Float32 => column.as_primitive::<Float32Type>().iter().flatten().all(f32::is_finite),
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Date32
        | DataType::Utf8
        | DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => true,
        _ => false,
    }
}

fn leaf_of(footer: &ParquetMetaData, name: &str) -> Option<usize> {
    footer.file_metadata().schema_descr().columns().iter().position(|leaf| leaf.path().parts() == [name])
}

/// Smallest and largest over all row groups; `None` where one of them has no bounds to tell (all NULL ones are passed over).
fn bounds(footer: &ParquetMetaData, leaf: usize, data_type: &DataType) -> Option<(Value, Value)> {
    let mut whole: Option<Bounds> = None;
    for group in footer.row_groups() {
        let statistics = group.column(leaf).statistics()?;
        if statistics.null_count_opt() == u64::try_from(group.num_rows()).ok() {
            continue;
        }
        let here = Bounds::of(statistics)?;
        whole = Some(match whole {
            Some(so_far) => so_far.merge(here)?,
            None => here,
        });
    }
    whole?.into_json(data_type)
}

enum Bounds {
    Integer(i64, i64),
    Float(f64, f64),
    Text(String, String),
}

impl Bounds {
    fn of(statistics: &Statistics) -> Option<Self> {
        Some(match statistics {
            Statistics::Int32(s) => Self::Integer(i64::from(*s.min_opt()?), i64::from(*s.max_opt()?)),
            Statistics::Int64(s) => Self::Integer(*s.min_opt()?, *s.max_opt()?),
            Statistics::Float(s) => Self::Float(f64::from(*s.min_opt()?), f64::from(*s.max_opt()?)),
            Statistics::Double(s) => Self::Float(*s.min_opt()?, *s.max_opt()?),
            Statistics::ByteArray(s) => {
                let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_string);
                Self::Text(text(s.min_opt()?.data())?, text(s.max_opt()?.data())?)
            }
            Statistics::Boolean(_) | Statistics::Int96(_) | Statistics::FixedLenByteArray(_) => return None,
        })
    }

    fn merge(self, other: Self) -> Option<Self> {
        Some(match (self, other) {
            (Self::Integer(a, b), Self::Integer(c, d)) => Self::Integer(a.min(c), b.max(d)),
            (Self::Float(a, b), Self::Float(c, d)) => Self::Float(a.min(c), b.max(d)),
            (Self::Text(a, b), Self::Text(c, d)) => Self::Text(a.min(c), b.max(d)),
            _ => return None,
        })
    }

    fn into_json(self, data_type: &DataType) -> Option<(Value, Value)> {
        Some(match (self, data_type) {
            (Self::Integer(min, max), DataType::Timestamp(_, _)) => (json!(instant(min)?), json!(instant(max)?)),
            (Self::Integer(min, max), DataType::Date32) => {
                let day = |d: i64| i32::try_from(d).ok().map(highwater_pipeline::tables::date_text);
                (json!(day(min)?), json!(day(max)?))
            }
            (Self::Integer(min, max), _) => (json!(min), json!(max)),
            (Self::Float(min, max), _) => (json!(min), json!(max)),
            (Self::Text(min, max), _) => (json!(min), json!(max)),
        })
    }
}

/// Only years 1 to 9999 have a form that every reader parses.
fn instant(unix_us: i64) -> Option<String> {
    let time = chrono::DateTime::from_timestamp_micros(unix_us)?;
    let year = chrono::Datelike::year(&time);
    (1..=9999).contains(&year).then(|| time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string())
}
