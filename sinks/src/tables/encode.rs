//! Rows to Parquet files: what one commit puts on storage.
//!
//! Zstandard, dictionaries, page statistics; times and offsets, which a dictionary would only bloat, as packed deltas; Bloom filters where one value
//! is looked for. The sort order is written into the footer, so that an engine may rely on it. Compaction writes by the same rules.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use bytes::Bytes;
use highwater_pipeline::data::identity;
use highwater_pipeline::tables::{TableSpec, data_file_path, date_text};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use uuid::Uuid;

use super::TablesConfig;
use super::sort::{Group, Sorted};
use super::stats::FileStats;
use crate::SinkError;

/// Rows beyond so many bytes go into a further set of files, so that no column outgrows Arrow's 2 GiB of text.
const MAX_SORT_BYTES: usize = 1 << 30;
/// Rows copied into file order at a time. The whole commit's rows are in memory once, and so many of them twice.
const COPIED_ROWS: usize = 16 << 10;
/// Columns in which one value is looked for among very many: they get Bloom filters. A column that is NULL throughout costs nothing.
const NEEDLES: [&str; 6] = ["trace_id", "span_id", "parent_span_id", "request_id", "correlation_id", "user_id"];
/// How often a row group without the value is read all the same.
const NEEDLE_FPP: f64 = 0.01;
/// A dictionary of floats, or of append times, that outgrows this, bytes, would cost more than it saves.
const DICTIONARY_BYTES: usize = 64 << 10;
/// Longest text in statistics, bytes.
const MAX_STATISTIC_BYTES: usize = 64;

/// A Parquet file, not yet written.
#[derive(Debug, Clone)]
pub struct EncodedFile {
    /// Path relative to the table's directory.
    pub path: String,
    /// Tenant of all its rows; `None` where NULL or empty.
    pub tenant: Option<String>,
    /// Day of all its rows, `yyyy-mm-dd`; `None` where NULL.
    pub date: Option<String>,
    /// Number of rows.
    pub rows: u64,
    /// The file.
    pub bytes: Bytes,
    /// Delta's statistics, JSON.
    pub stats: String,
}

impl EncodedFile {
    /// Gives it a new name in its directory.
    pub(super) fn rename(&mut self) {
        self.path = data_file_path(self.tenant.as_deref(), self.date.as_deref(), Uuid::new_v4());
    }
}

/// Sorts, splits and encodes rows that have the table's columns ([`TableSpec::table_schema`]). CPU work: call it off the async threads.
///
/// # Errors
/// Where a batch lacks a column, or Parquet refuses a value.
pub fn encode(spec: &TableSpec, config: &TablesConfig, batches: &[RecordBatch]) -> Result<Vec<EncodedFile>, SinkError> {
    let arrow = |source| SinkError::Arrow { table: spec.name.clone(), source };
    let parquet = |source| SinkError::Parquet { table: spec.name.clone(), source };
    let mut files = Vec::new();
    let mut rest = batches;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(sortable(rest));
        rest = later;
        let sorted = Sorted::new(spec, now).map_err(arrow)?;
        for group in &sorted.groups {
            files.push(encode_group(spec, config, &sorted, group).map_err(parquet)?);
        }
    }
    Ok(files)
}

/// How many of these batches, at least one, are sorted together.
fn sortable(batches: &[RecordBatch]) -> usize {
    let mut bytes = 0_usize;
    for (i, batch) in batches.iter().enumerate() {
        bytes = bytes.saturating_add(batch.get_array_memory_size());
        if bytes > MAX_SORT_BYTES {
            return i.max(1);
        }
    }
    batches.len()
}

fn encode_group(
    spec: &TableSpec,
    config: &TablesConfig,
    sorted: &Sorted,
    group: &Group,
) -> Result<EncodedFile, ParquetError> {
    let schema = sorted.schema().ok_or_else(|| ParquetError::General("a file of no rows".to_string()))?;
    let properties = properties(&spec.promoted, spec, config, &schema)?;
    let mut bytes = Vec::new();
    let mut stats = FileStats::new(&schema);
    let mut writer = ArrowWriter::try_new(&mut bytes, SchemaRef::clone(&schema), Some(properties))?;
    for places in group.places.chunks(COPIED_ROWS) {
        let rows = sorted.copy(places)?;
        stats.add(&rows);
        writer.write(&rows)?;
    }
    let footer = writer.close()?;
    let date = group.date.map(date_text);
    Ok(EncodedFile {
        path: data_file_path(group.tenant.as_deref(), date.as_deref(), Uuid::new_v4()),
        tenant: group.tenant.clone(),
        date,
        rows: group.places.len() as u64,
        bytes: Bytes::from(bytes),
        stats: stats.to_json(&footer),
    })
}

/// How the files of a table are written. In `promoted` one value is looked for, too.
pub(super) fn properties(
    promoted: &[String],
    spec: &TableSpec,
    config: &TablesConfig,
    schema: &SchemaRef,
) -> Result<WriterProperties, ParquetError> {
    let mut builder = WriterProperties::builder()
        .set_created_by(concat!("highwater ", env!("CARGO_PKG_VERSION")).to_string())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(config.compression_level)?))
        .set_max_row_group_row_count(Some(config.row_group_rows))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_statistics_truncate_length(Some(MAX_STATISTIC_BYTES))
        .set_column_index_truncate_length(Some(MAX_STATISTIC_BYTES))
        // Parquet's own names for the parts of a map, whatever Arrow calls them.
        .set_coerce_types(true)
        .set_sorting_columns(sorting(&spec.sort_columns, |name| leaf_of(schema, name)));
    for field in schema.fields() {
        let column = ColumnPath::from(field.name().as_str());
        let packed = matches!(field.data_type(), DataType::Timestamp(_, _))
            || [identity::OFFSET, identity::ROW].contains(&field.name().as_str());
        if packed {
            builder = builder
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_encoding(column.clone(), Encoding::DELTA_BINARY_PACKED);
        }
        if *field.data_type() == DataType::Float64 && config.byte_stream_split {
            // Few values, few bits each; many, and the bytes of one significance side by side.
            builder = builder
                .set_column_dictionary_page_size_limit(column.clone(), DICTIONARY_BYTES)
                .set_column_encoding(column.clone(), Encoding::BYTE_STREAM_SPLIT);
        }
        if field.name() == identity::APPEND_TIME {
            // All rows of a record have one. Where rows lie by series rather than by record, as many records as rows: packed deltas then.
            builder = builder
                .set_column_dictionary_enabled(column.clone(), true)
                .set_column_dictionary_page_size_limit(column.clone(), DICTIONARY_BYTES);
        }
        let is_needle = NEEDLES.contains(&field.name().as_str()) || promoted.contains(field.name());
        if is_needle && *field.data_type() == DataType::Utf8 {
            // As large as a row group may need; folded to what its values do need.
            builder = builder
                .set_column_bloom_filter_enabled(column.clone(), true)
                .set_column_bloom_filter_fpp(column.clone(), NEEDLE_FPP)
                .set_column_bloom_filter_max_ndv(column, config.row_group_rows as u64);
        }
    }
    Ok(builder.build())
}

/// A sort order, ascending and NULL first, in terms of Parquet's leaf columns; `None` where one of them is missing.
pub(super) fn sorting(columns: &[String], leaf: impl Fn(&str) -> Option<usize>) -> Option<Vec<SortingColumn>> {
    columns
        .iter()
        .map(|name| {
            let column_idx = i32::try_from(leaf(name)?).ok()?;
            Some(SortingColumn { column_idx, descending: false, nulls_first: true })
        })
        .collect()
}

/// The place of a flat column among Parquet's leaves. A map has two leaves; no other stored type is nested.
fn leaf_of(schema: &SchemaRef, name: &str) -> Option<usize> {
    let mut leaf = 0;
    for field in schema.fields() {
        if field.name() == name {
            return (!field.data_type().is_nested()).then_some(leaf);
        }
        leaf += match field.data_type() {
            DataType::Map(_, _) => 2,
            other if other.is_nested() => return None,
            _ => 1,
        };
    }
    None
}
