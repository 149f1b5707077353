//! Metadata of metrics on its way in: said with every scrape, written when it is new.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ahash::RandomState;
use bytes::Bytes;
use parking_lot::Mutex;

use super::IngestError;
use super::batcher::Dealer;
use crate::data::metric_metadata::MetricMetadata;
use crate::data::{Refusal, Tenant};

/// Most metrics that one request may describe.
pub(super) const MAX_DESCRIBED: usize = 1 << 16;
/// Most metrics that are remembered as written; beyond, all are forgotten, which costs rows that say the same again.
const MAX_REMEMBERED: usize = 1 << 18;
/// How long what was written counts as said.
const REPEAT_AFTER: Duration = Duration::from_secs(60 * 60);

/// What a metric is, as it was received.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Described {
    /// Name of the metric family.
    pub(super) name: Bytes,
    pub(super) kind: Kind,
    pub(super) help: Bytes,
    pub(super) unit: Bytes,
}

/// The types of metrics that Prometheus knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    #[default]
    Unknown,
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    Info,
    StateSet,
}

impl Kind {
    /// As remote write numbers them.
    pub(super) fn of_prometheus(number: u64) -> Self {
        match number {
            1 => Self::Counter,
            2 => Self::Gauge,
            3 => Self::Histogram,
            4 => Self::GaugeHistogram,
            5 => Self::Summary,
            6 => Self::Info,
            7 => Self::StateSet,
            _ => Self::Unknown,
        }
    }

    /// What the column `kind` says.
    pub(super) fn of_rows_named(kind: Option<&str>) -> Self {
        match kind {
            Some("counter") => Self::Counter,
            Some("gauge") => Self::Gauge,
            Some("histogram") => Self::Histogram,
            Some("summary") => Self::Summary,
            _ => Self::Unknown,
        }
    }

    /// As Prometheus's API spells it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
        }
    }

    /// The column `kind` of its samples.
    pub(super) fn of_rows(self) -> Option<&'static str> {
        match self {
            Self::Unknown => None,
            Self::Counter => Some("counter"),
            Self::Gauge | Self::Info | Self::StateSet => Some("gauge"),
            Self::Histogram | Self::GaugeHistogram => Some("histogram"),
            Self::Summary => Some("summary"),
        }
    }

    /// The family of a series of this name: what it is called without the suffix of its part.
    pub(super) fn family(self, name: &str) -> &str {
        let suffixes: &[&str] = match self {
            Self::Histogram => &["_bucket", "_sum", "_count"],
            Self::GaugeHistogram => &["_bucket", "_gsum", "_gcount", "_sum", "_count"],
            Self::Summary => &["_sum", "_count"],
            _ => &[],
        };
        let stripped = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix));
        stripped.filter(|family| !family.is_empty()).unwrap_or(name)
    }
}

impl Described {
    /// Why a request that describes too many is refused.
    pub(super) fn too_many() -> IngestError {
        let reason = format!("it describes more than {MAX_DESCRIBED} metrics: send less at a time");
        IngestError::Message { message: "request", reason }
    }
}

/// Which metadata this process has written lately.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// By tenant and name, hashed: what was said, hashed, and when.
    written: Mutex<HashMap<u64, (u64, Instant), RandomState>>,
}

impl Said {
    /// Leaves only what has not been written.
    pub(super) fn retain_new(&self, tenant: &Tenant, described: &mut Vec<Described>) {
        if described.is_empty() {
            return;
        }
        let (written, now) = (self.written.lock(), now());
        described.retain(|described| {
            let (key, content) = hashes(written.hasher(), tenant, described);
            written.get(&key).is_none_or(|&(known, at)| known != content || now.duration_since(at) > REPEAT_AFTER)
        });
    }

    /// Remembers what is durable now.
    pub(super) fn remember(&self, tenant: &Tenant, described: &[Described]) {
        let (mut written, now) = (self.written.lock(), now());
        if written.len() + described.len() > MAX_REMEMBERED {
            written.clear();
        }
        for described in described {
            let (key, content) = hashes(written.hasher(), tenant, described);
            written.insert(key, (content, now));
        }
    }
}

/// Adds what is described to the record.
pub(super) fn deal(described: &[Described], dealer: &mut Dealer<'_, MetricMetadata>) {
    let limits = dealer.limits();
    for (index, described) in (0..).zip(described) {
        let text = |bytes| std::str::from_utf8(bytes).ok();
        let Described { name, kind, help, unit } = described;
        let size_bytes = name.len().max(help.len()).max(unit.len());
        if size_bytes > limits.max_value_size_bytes {
            let (field, limit_bytes) = ("metadata".to_owned(), limits.max_value_size_bytes);
            dealer.refuse(index, &Refusal::TooLong { field, size_bytes, limit_bytes }, 1);
        } else if let (Some(name), Some(help), Some(unit)) = (text(name), text(help), text(unit)) {
            dealer.add(0, |columns| columns.append(name, kind.name(), help, unit));
        } else {
            dealer.refuse(index, &Refusal::NotText { field: "metadata" }, 1);
        }
    }
}

fn hashes(hasher: &RandomState, tenant: &Tenant, described: &Described) -> (u64, u64) {
    let Described { name, kind, help, unit } = described;
    (hasher.hash_one((tenant, name)), hasher.hash_one((kind, help, unit)))
}

#[expect(
    clippy::disallowed_methods,
    reason = "how often the same is written again; what it says does not depend on it"
)]
fn now() -> Instant {
    Instant::now()
}
