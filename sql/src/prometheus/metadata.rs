//! What metrics are: as their senders say, and where these say nothing, by the kind of the newest rows.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use futures::TryStreamExt;
use serde::Serialize;

use super::Prometheus;
use super::error::ApiError;
use crate::error::SqlError;

/// Type, help and unit of a metric.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Metadata {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) help: String,
    pub(super) unit: String,
}

/// The newest of what was said of each metric is what counts.
const TOLD: &str = r#"SELECT name, "type", coalesce(help, ''), coalesce("unit", ''), max("timestamp") FROM metric_metadata GROUP BY 1, 2, 3, 4"#;

impl Prometheus {
    /// Metadata of the tenant's metrics by family. Without a word of their senders there can be several: rows of two kinds.
    pub(super) async fn metadata(&self, tenant: &str) -> Result<BTreeMap<String, Vec<Metadata>>, ApiError> {
        let told = self.told(tenant).await?;
        let mut all: BTreeMap<String, Vec<Metadata>> =
            told.into_iter().map(|(name, (_, told))| (name, vec![told])).collect();
        let told: BTreeSet<String> = all.keys().cloned().collect();
        for (name, kind) in self.kinds(tenant).await? {
            let family = family(&name, kind.as_deref());
            let kind = kind.unwrap_or_else(|| "unknown".to_owned());
            if told.contains(family) {
                continue;
            }
            let known = all.entry(family.to_owned()).or_default();
            if known.iter().all(|metadata| metadata.kind != kind) {
                known.push(Metadata { kind, help: String::new(), unit: String::new() });
            }
        }
        Ok(all)
    }

    /// What senders said: when, and what.
    async fn told(&self, tenant: &str) -> Result<BTreeMap<String, (i64, Metadata)>, ApiError> {
        if self.engine.tables(|spec| spec.name == highwater_pipeline::data::metric_metadata::TABLE).is_empty() {
            return Ok(BTreeMap::new());
        }
        let rows: Vec<RecordBatch> = self.engine.query(tenant, TOLD).await?.try_collect().await?;
        let mut told: BTreeMap<String, (i64, Metadata)> = BTreeMap::new();
        for batch in &rows {
            let text = |column: usize| batch.column(column).as_string_opt::<i32>();
            let times = batch.column(4).as_primitive_opt::<TimestampMicrosecondType>();
            let (Some(names), Some(kinds), Some(helps), Some(units), Some(times)) =
                (text(0), text(1), text(2), text(3), times)
            else {
                let message = format!("the metadata of metrics has other columns: {}", batch.schema());
                return Err(SqlError::Internal { message }.into());
            };
            for row in 0..batch.num_rows() {
                let own = |column: &arrow::array::StringArray| column.value(row).to_owned();
                let said = (times.value(row), Metadata { kind: own(kinds), help: own(helps), unit: own(units) });
                match told.get_mut(names.value(row)) {
                    Some(known) if known.0 < said.0 => *known = said,
                    Some(_) => {}
                    None => drop(told.insert(own(names), said)),
                }
            }
        }
        Ok(told)
    }
}

/// The metric that a series is part of: a histogram's buckets are the histogram.
fn family<'a>(name: &'a str, kind: Option<&str>) -> &'a str {
    let suffixes: &[&str] = match kind {
        Some("histogram") => &["_bucket", "_sum", "_count"],
        Some("summary") => &["_sum", "_count"],
        _ => &[],
    };
    suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).filter(|family| !family.is_empty()).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_histograms_and_summaries_are_of_one_family() {
        for (name, kind, wanted) in [
            ("latency_bucket", Some("histogram"), "latency"),
            ("latency_sum", Some("histogram"), "latency"),
            ("latency_count", Some("summary"), "latency"),
            ("latency_bucket", Some("summary"), "latency_bucket"),
            ("page_count", Some("gauge"), "page_count"),
            ("page_count", None, "page_count"),
            ("_sum", Some("summary"), "_sum"),
        ] {
            assert_eq!(family(name, kind), wanted);
        }
    }
}
