//! Which kind of metric each name is, by the newest day of data.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::ScalarValue;

use super::catalogue::Catalogue;
use super::columns::{self, Texts};
use super::{ReadError, Snapshot, Wanted};

/// How much of the newest data is looked at.
const LOOKED_AT_MS: i64 = 24 * 3_600_000;

impl Snapshot {
    /// Name and kind of the metrics of the newest day; a name with two kinds is there twice.
    pub(in crate::prometheus) async fn kinds(
        &self,
        now_ms: i64,
    ) -> Result<BTreeSet<(String, Option<String>)>, ReadError> {
        let newest_ms = self.newest_stored_ms().map_or(now_ms, |newest_ms| newest_ms.min(now_ms));
        let wanted = Wanted::new([], newest_ms.saturating_sub(LOOKED_AT_MS), i64::MAX / 1000);
        let wanted = Arc::new(wanted.map_err(|e| crate::error::SqlError::Internal { message: e.to_string() })?);
        let catalogue = Arc::new(Catalogue::new(Arc::clone(&wanted), Arc::clone(&self.known_series), 0));
        let found = self.scan(&wanted, &catalogue, &columns::OF_KINDS, BTreeSet::new, find).await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// The latest time in files of the tenant, Unix milliseconds.
    fn newest_stored_ms(&self) -> Option<i64> {
        let of_table = |(table, cut): &(Arc<crate::table::Table>, crate::table::Cut)| {
            let place = table.file_schema.index_of(columns::TIMESTAMP).ok()?;
            let files =
                cut.snapshot.as_ref()?.files.iter().filter(|file| file.tenant.as_deref() == Some(&*self.tenant));
            let last_us = files.filter_map(|file| {
                match file.file.statistics.as_ref()?.column_statistics.get(place)?.max_value.get_value()? {
                    ScalarValue::TimestampMicrosecond(last, _) => *last,
                    _ => None,
                }
            });
            last_us.max().map(|last_us| last_us.div_euclid(1000))
        };
        self.tables.iter().filter_map(of_table).max()
    }
}

fn find(found: &mut BTreeSet<(String, Option<String>)>, batch: &RecordBatch) -> Result<(), ReadError> {
    let (names, kinds) = (Texts::of(batch, columns::METRIC)?, Texts::of(batch, columns::KIND)?);
    for row in 0..batch.num_rows() {
        let same = |before: usize| names.same(before, row) && kinds.same(before, row);
        if row == 0 || !same(row - 1) {
            found.insert((names.get(row).to_owned(), kinds.get_nullable(row).map(str::to_owned)));
        }
    }
    Ok(())
}
