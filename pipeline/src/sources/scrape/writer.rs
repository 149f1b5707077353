//! Rows of a scrape into the log, by the path of all doors.

use bytes::Bytes;

use super::exposition::Kind;
use super::page::{Family, Row, RowSample};
use crate::data::metrics::{MetricParts, Metrics, Sample};
use crate::data::{Refusal, Tenant};
use crate::sources::encoding::Encoding;
use crate::sources::ingest::Request;
use crate::sources::metadata::{self, Described};
use crate::sources::{Ingest, IngestError, IngestReport};

/// What the ledger and metrics call scraping.
const DOOR: &str = "scrape";

/// Writes rows, and what families are; returns once they are durable.
pub(super) async fn write(
    ingest: &Ingest,
    tenant: &Tenant,
    rows: Vec<Row>,
    families: &[Family],
) -> Result<IngestReport, IngestError> {
    let described: Vec<_> = families
        .iter()
        .filter(|family| family.kind != Kind::Unknown || !family.help.is_empty())
        .map(described)
        .collect();
    let request = Request {
        door: DOOR,
        tenant: tenant.clone(),
        body: Bytes::new(),
        encoding: Encoding::Identity,
        inside: Encoding::Identity,
        key: None,
        reservation: ingest.reservation(),
    };
    let prepared = ingest
        .prepare::<Metrics, _>(request, move |_, dealer| {
            let limits = dealer.limits();
            for (index, row) in (0..).zip(&rows) {
                let series = &row.series;
                // What the job's own limits let pass, which are none unless they are set.
                let [name, value] = series.longest;
                let fits = match series.labels_count > limits.max_attributes {
                    true => Err(Refusal::TooMany { what: "labels", limit: limits.max_attributes }),
                    false => limits.label(name, value, || Refusal::excerpt(&series.name)),
                };
                if let Err(refusal) = fits {
                    dealer.refuse(index, &refusal, 1);
                    continue;
                }
                let partition = dealer.partition(|key| key.extend_from_slice(series.key.as_bytes()));
                let parts = MetricParts {
                    timestamp_us: Some(row.timestamp_ms.saturating_mul(1_000)),
                    start_timestamp_us: None,
                    name: &series.name,
                    kind: series.kind,
                    sample: match &row.sample {
                        RowSample::Value(value) => Sample::Value(*value),
                        RowSample::Histogram(message) => Sample::Histogram(message),
                        RowSample::Stale => Sample::Stale,
                    },
                    labels: [&series.labels, ""],
                    job: series.job.as_deref(),
                    instance: series.instance.as_deref(),
                    service: series.service.as_deref(),
                    series_id: series.id,
                    temporality: None,
                };
                dealer.add(partition, |columns| columns.append_parts(&parts));
            }
            Ok(())
        })
        .await?;
    let (report, ()) = ingest.append(prepared).await?;
    ingest.describe(DOOR, tenant, described).await?;
    Ok(report)
}

fn described(family: &Family) -> Described {
    let kind = match family.kind {
        Kind::Counter => metadata::Kind::Counter,
        Kind::Gauge => metadata::Kind::Gauge,
        Kind::Histogram => metadata::Kind::Histogram,
        Kind::GaugeHistogram => metadata::Kind::GaugeHistogram,
        Kind::Summary => metadata::Kind::Summary,
        Kind::Info => metadata::Kind::Info,
        Kind::StateSet => metadata::Kind::StateSet,
        Kind::Unknown => metadata::Kind::Unknown,
    };
    Described {
        name: Bytes::from(family.name.clone()),
        kind,
        help: Bytes::from(family.help.clone()),
        unit: Bytes::from(family.unit.clone()),
    }
}
