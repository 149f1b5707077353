//! Which row groups, and which rows of them, can hold what is wanted: by the statistics of row groups and pages.
//!
//! A file is sorted by name, series and time, so the rows of one name are a few neighbouring pages.

use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::statistics::Statistics;

use super::{Wanted, columns};

/// What is to be read of a file.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Pruned {
    /// Row groups, in order.
    pub(super) row_groups: Vec<usize>,
    /// Rows of these row groups, counted through; `None` is all.
    pub(super) rows: Option<RowSelection>,
    /// Whether every row has a wanted time.
    pub(super) all_times: bool,
    /// Whether every row has a wanted name.
    pub(super) all_names: bool,
}

/// What can hold wanted rows.
pub(super) fn prune(metadata: &ParquetMetaData, wanted: &Wanted) -> Pruned {
    let leaf = |name: &str| {
        metadata.file_metadata().schema_descr().columns().iter().position(|column| column.path().string() == name)
    };
    let (times, names) = (leaf(columns::TIMESTAMP), leaf(columns::METRIC));
    let mut pruned = Pruned { all_times: true, all_names: true, ..Pruned::default() };
    let mut selectors = Vec::new();
    for (at, group) in metadata.row_groups().iter().enumerate() {
        let time_range = times.and_then(|leaf| time_range(group, leaf));
        let name_range = names.and_then(|leaf| name_range(group, leaf));
        let late_or_early = time_range.is_some_and(|(first, last)| !wanted.overlaps(first, last));
        let other_names = name_range.is_some_and(|range| !wanted.may_have_name(range.least, range.greatest));
        if late_or_early || other_names {
            continue;
        }
        pruned.row_groups.push(at);
        pruned.all_times &= time_range.is_some_and(|(first, last)| wanted.covers(first, last));
        let one_name = name_range.and_then(|range| range.only());
        let of_that_name = one_name.is_some_and(|name| wanted.has_name(name));
        pruned.all_names &= of_that_name;
        let pages = names.filter(|_| !of_that_name).and_then(|leaf| page_rows(metadata, at, leaf, wanted));
        selectors.extend(pages.unwrap_or_else(|| vec![RowSelector::select(row_count(group))]));
    }
    if selectors.iter().any(|selector| selector.skip) {
        pruned.rows = Some(RowSelection::from(selectors));
    }
    pruned
}

fn row_count(group: &RowGroupMetaData) -> usize {
    usize::try_from(group.num_rows()).unwrap_or_default()
}

/// First and last time of a row group, microseconds.
fn time_range(group: &RowGroupMetaData, leaf: usize) -> Option<(i64, i64)> {
    match group.column(leaf).statistics()? {
        Statistics::Int64(times) => Some((*times.min_opt()?, *times.max_opt()?)),
        _ => None,
    }
}

/// Bounds of the names of a row group.
#[derive(Debug, Clone, Copy)]
struct NameRange<'a> {
    least: &'a [u8],
    greatest: &'a [u8],
    exact: bool,
}

impl<'a> NameRange<'a> {
    /// The name, where there is one only.
    fn only(self) -> Option<&'a str> {
        (self.exact && self.least == self.greatest).then(|| std::str::from_utf8(self.least).ok()).flatten()
    }
}

fn name_range(group: &RowGroupMetaData, leaf: usize) -> Option<NameRange<'_>> {
    let statistics = group.column(leaf).statistics()?;
    let (least, greatest) = (statistics.min_bytes_opt()?, statistics.max_bytes_opt()?);
    Some(NameRange { least, greatest, exact: statistics.min_is_exact() && statistics.max_is_exact() })
}

/// The rows of a row group whose pages can hold a wanted name; `None` where nothing is known of pages.
fn page_rows(metadata: &ParquetMetaData, group: usize, leaf: usize, wanted: &Wanted) -> Option<Vec<RowSelector>> {
    let ColumnIndexMetaData::BYTE_ARRAY(bounds) = metadata.column_index()?.get(group)?.get(leaf)? else { return None };
    let pages = metadata.offset_index()?.get(group)?.get(leaf)?.page_locations();
    let first_row = |page: usize| pages.get(page).and_then(|page| usize::try_from(page.first_row_index).ok());
    let rows = row_count(metadata.row_group(group));
    let mut selectors = Vec::with_capacity(pages.len());
    for page in 0..pages.len() {
        let count = first_row(page + 1).unwrap_or(rows).checked_sub(first_row(page)?)?;
        let may_have = match (bounds.min_value(page), bounds.max_value(page)) {
            (Some(least), Some(greatest)) => wanted.may_have_name(least, greatest),
            // A page of nothing but NULLs, or one of which nothing is known.
            _ => true,
        };
        selectors.push(if may_have { RowSelector::select(count) } else { RowSelector::skip(count) });
    }
    Some(selectors)
}
