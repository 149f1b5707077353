//! Rows whose time is over. A file goes as a whole, once the youngest of its rows is past the age, or where newer files fill the size.
//!
//! The commit says which rows went, by partition: so `verify` tells what was removed by right from what was lost.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int32Type, Int64Type};
use futures::TryStreamExt;
use highwater_pipeline::data::identity;
use highwater_pipeline::tables::{Retention, TOPIC_COLUMN};
use parquet::arrow::ProjectionMask;
use serde_json::json;

use super::Maintainer;
use super::facts::Facts;
use crate::SinkError;
use crate::tables::delta::{ActiveFile, EXPIRED_KEY, Expired, Origin, Rewrite, RewriteAttempt};
use crate::tables::metrics;
use crate::tables::read::open_file;

/// The operation of a commit that removes rows whose time is over.
pub(crate) const RETENTION: &str = "RETENTION";
/// Files that one commit removes.
const FILES_AT_ONCE: usize = 500;

/// What retention has removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retained {
    /// Files.
    pub files: u64,
    /// Rows in them.
    pub rows: u64,
    /// Their size.
    pub bytes: u64,
}

impl Maintainer {
    /// Removes files whose rows are all past the table's age, or beyond its size, tenant by tenant.
    ///
    /// # Errors
    /// Where files or the Delta log cannot be read or written.
    pub async fn retain(&mut self) -> Result<Retained, SinkError> {
        let now_ms = self.clock.now_ms();
        let files = self.delta.refresh_files(now_ms).await?;
        let facts = files.into_iter().map(|file| Facts::new(file, &self.spec.time_column)).collect();
        let rule = |tenant: Option<&str>| self.config.retention_of(&self.spec, tenant);
        let over = over(facts, rule, now_ms);
        let mut removed = Retained::default();
        for files in over.chunks(FILES_AT_ONCE) {
            if !self.expire(files, &mut removed).await? {
                // Another commit has taken one of them: the next turn looks anew.
                break;
            }
        }
        Ok(removed)
    }

    /// Removes these files in one commit; false where one of them is gone already.
    async fn expire(&mut self, files: &[Facts], removed: &mut Retained) -> Result<bool, SinkError> {
        let mut expired = Vec::new();
        let mut gone = Vec::with_capacity(files.len());
        for facts in files {
            match self.rows_of(&facts.file).await {
                Ok(rows) => {
                    expired.extend(rows);
                    gone.push(facts.file.clone());
                }
                Err(error) => {
                    metrics::failed(&self.spec.name, "retain");
                    tracing::warn!(table = %self.spec.name, path = %facts.file.path, %error, "a file past its time cannot be read, so it stays");
                }
            }
        }
        if gone.is_empty() {
            return Ok(true);
        }
        let rows: u64 = expired.iter().map(|e| e.rows).sum();
        let (count, bytes) =
            (gone.len() as u64, gone.iter().map(|f| u64::try_from(f.size_bytes).unwrap_or(0)).sum::<u64>());
        let rewrite = Rewrite::new(RETENTION, true).info(EXPIRED_KEY, json!(expired)).remove(gone);
        match self.commit(&rewrite, i64::MAX).await? {
            RewriteAttempt::Done(version) => {
                metrics::expired(&self.spec.name, count, rows);
                tracing::info!(table = %self.spec.name, version, files = count, rows, bytes, "removed rows past their retention");
                removed.files += count;
                removed.rows += rows;
                removed.bytes += bytes;
                Ok(true)
            }
            RewriteAttempt::Void { .. } => Ok(false),
            RewriteAttempt::Again { reason, .. } => {
                let reason = format!("rows past their retention could not be removed: {reason}");
                Err(SinkError::Broken { table: self.spec.name.clone(), reason })
            }
        }
    }

    /// Which rows a file holds, by topic and partition.
    async fn rows_of(&self, file: &ActiveFile) -> Result<Vec<Expired>, SinkError> {
        let arrow = |source| SinkError::Arrow { table: self.spec.name.clone(), source };
        let builder = open_file(&self.spec.name, &self.files, file).await?;
        let names = [TOPIC_COLUMN, identity::PARTITION, identity::OFFSET];
        let mask = ProjectionMask::columns(builder.parquet_schema(), names);
        let parquet = |source| SinkError::Parquet { table: self.spec.name.clone(), source };
        let mut rows = builder.with_projection(mask).build().map_err(parquet)?;
        let mut found: BTreeMap<(String, i32), (i64, i64, u64)> = BTreeMap::new();
        let first = self.spec.topics.first().map_or("", String::as_str);
        while let Some(batch) = rows.try_next().await.map_err(parquet)? {
            let column = |name: &str| {
                let missing =
                    || arrow::error::ArrowError::SchemaError(format!("file {} has no column {name}", file.path));
                batch.column_by_name(name).ok_or_else(missing).map_err(arrow)
            };
            let partitions = column(identity::PARTITION)?.as_primitive::<Int32Type>().values();
            let offsets = column(identity::OFFSET)?.as_primitive::<Int64Type>().values();
            let topics = batch.column_by_name(TOPIC_COLUMN).and_then(|c| c.as_string_opt::<i32>());
            for (i, (&partition, &offset)) in partitions.iter().zip(offsets).enumerate() {
                // Rows that name none were written when the table had its first topic only.
                let topic = topics.filter(|topics| topics.is_valid(i)).map_or(first, |topics| topics.value(i));
                match found.iter_mut().find(|((t, p), _)| t == topic && *p == partition) {
                    Some((_, (from, to, count))) => {
                        (*from, *to, *count) = ((*from).min(offset), (*to).max(offset + 1), *count + 1);
                    }
                    None => drop(found.insert((topic.to_string(), partition), (offset, offset + 1, 1))),
                }
            }
        }
        let of = Some(Origin { tenant: file.tenant.clone(), date: file.date.clone() });
        let expired = found.into_iter().map(|((topic, partition), (from, to, rows))| Expired {
            topic,
            partition,
            from,
            to,
            rows,
            of: of.clone(),
        });
        Ok(expired.collect())
    }
}

/// The files that go, oldest first.
fn over(files: Vec<Facts>, rule: impl Fn(Option<&str>) -> Retention, now_ms: i64) -> Vec<Facts> {
    let mut tenants: BTreeMap<Option<String>, Vec<Facts>> = BTreeMap::new();
    for facts in files {
        tenants.entry(facts.file.tenant.clone()).or_default().push(facts);
    }
    let mut over = Vec::new();
    for (tenant, mut files) in tenants {
        let Retention { age_ms, size_bytes } = rule(tenant.as_deref());
        files.sort_by(|a, b| (b.newest_ms, &b.file.path).cmp(&(a.newest_ms, &a.file.path)));
        let horizon_ms = age_ms.map_or(i64::MIN, |age| now_ms.saturating_sub(i64::try_from(age).unwrap_or(i64::MAX)));
        let mut sum = 0_u64;
        for (i, facts) in files.into_iter().enumerate() {
            sum = sum.saturating_add(facts.size_bytes);
            // The newest file stays, however small the size: what was just written is not gone at once.
            let too_much = i > 0 && size_bytes.is_some_and(|limit| sum > limit);
            if facts.newest_ms <= horizon_ms || too_much {
                over.push(facts);
            }
        }
    }
    over.sort_by(|a, b| (a.newest_ms, &a.file.path).cmp(&(b.newest_ms, &b.file.path)));
    over
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::file;
    use super::*;

    const DAY_MS: i64 = 86_400_000;
    /// The end of 2025-11-20, Unix milliseconds.
    const END: i64 = 20_413 * DAY_MS;

    fn facts(tenant: &str, day: i64, size_bytes: i64) -> Facts {
        let date = highwater_pipeline::tables::date_text(i32::try_from(20_412 + day).unwrap());
        let mut file = file(&format!("{tenant}{day:03}"), &date, size_bytes, 0, None);
        file.tenant = Some(tenant.into());
        Facts::new(file, "timestamp")
    }

    fn paths(files: &[Facts]) -> Vec<&str> {
        files.iter().map(|facts| facts.file.path.as_str()).collect()
    }

    #[test]
    fn a_file_goes_once_its_youngest_row_is_past_the_age() {
        let rule = |_: Option<&str>| Retention { age_ms: Some(2 * DAY_MS as u64), size_bytes: None };
        let all = || (0..4).map(|day| facts("t", day, 1)).collect::<Vec<_>>();
        assert!(over(all(), rule, END + 2 * DAY_MS - 1).is_empty());
        assert_eq!(paths(&over(all(), rule, END + 2 * DAY_MS)), ["t000"]);
        assert_eq!(paths(&over(all(), rule, END + 4 * DAY_MS)), ["t000", "t001", "t002"]);
        let none = |_: Option<&str>| Retention::default();
        assert!(over(all(), none, i64::MAX).is_empty());
    }

    #[test]
    fn the_oldest_go_where_the_size_is_passed_and_each_tenant_counts_alone() {
        let rule = |tenant: Option<&str>| Retention { age_ms: None, size_bytes: (tenant == Some("a")).then_some(10) };
        let all = vec![facts("a", 0, 4), facts("a", 1, 4), facts("a", 2, 4), facts("a", 3, 4), facts("b", 0, 400)];
        assert_eq!(paths(&over(all, rule, 0)), ["a000", "a001"]);
        let huge = vec![facts("a", 0, 4), facts("a", 1, 400)];
        assert_eq!(paths(&over(huge, rule, 0)), ["a000"], "the newest stays");
    }
}
