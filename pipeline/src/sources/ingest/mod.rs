//! The path behind every door: read the entries, append the rows, tell the sender.

use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;

use super::batcher::{Batch, Dealer, EncodedRecord, RECORD_SIZE_BYTES, read_json};
use super::budget::{Budget, Reservation};
use super::encoding::Encoding;
use super::metadata::{self, Described, Said};
use super::meter::{self, Meter};
use super::{IdempotencyKey, IngestConfig, IngestError, IngestReport};
use crate::access::Quotas;
use crate::data::logs::Logs;
use crate::data::metric_metadata::MetricMetadata;
use crate::data::metrics::Metrics;
use crate::data::signal::{Columnar, Signal};
use crate::data::spans::Spans;
use crate::data::{Tenant, content_type};
use crate::ledger::{Doors, Origin};
use crate::log::{Append, Guard, Log, LogError, Record, TopicConfig};

#[cfg(test)]
mod tests;

/// Bodies above this size, and compressed ones, are read off the async threads, which they would hold up for too long.
const INLINE_SIZE_BYTES: usize = 64 << 10;
/// Doors that are of this process.
const UNLIMITED: [&str; 2] = ["internal", "scrape"];

/// Takes logs and metrics into the log. One per process, shared by all doors.
pub struct Ingest {
    log: Arc<dyn Log>,
    config: IngestConfig,
    budget: Budget,
    log_partitions: i32,
    metric_partitions: i32,
    span_partitions: i32,
    /// Metadata of metrics that is written already.
    said: Said,
    /// What this process took in, for the ledger.
    doors: Arc<Doors>,
    /// Limits of tenants.
    quotas: Option<Quotas>,
}

/// One request, its body as it came.
pub(super) struct Request {
    pub(super) door: &'static str,
    pub(super) tenant: Tenant,
    pub(super) body: Bytes,
    pub(super) encoding: Encoding,
    /// Another encoding inside that one.
    pub(super) inside: Encoding,
    pub(super) key: Option<IdempotencyKey>,
    /// What the body holds of the budget.
    pub(super) reservation: Reservation,
}

/// A request whose rows are encoded and yet to be appended.
pub(super) struct Prepared<S, T> {
    pub(super) tenant: Tenant,
    key: Option<IdempotencyKey>,
    batch: Batch,
    door: &'static str,
    /// What else was read.
    pub(super) extra: T,
    signal: PhantomData<S>,
    /// The budget is held until the rows are appended.
    _reservation: Reservation,
}

/// Signals as the doors know them: where their records go.
pub(super) trait Route: Columnar {
    /// How many partitions the topic has.
    fn partitions(ingest: &Ingest) -> i32;
}

impl Route for Logs {
    fn partitions(ingest: &Ingest) -> i32 {
        ingest.log_partitions
    }
}

impl Route for Metrics {
    fn partitions(ingest: &Ingest) -> i32 {
        ingest.metric_partitions
    }
}

impl Route for Spans {
    fn partitions(ingest: &Ingest) -> i32 {
        ingest.span_partitions
    }
}

impl Route for MetricMetadata {
    fn partitions(_ingest: &Ingest) -> i32 {
        1
    }
}

impl Ingest {
    /// Makes sure that the topics of all signals exist (new ones get `topic`) and opens the path to them.
    ///
    /// # Errors
    /// [`IngestError::Config`] for settings that contradict themselves, [`IngestError::Topic`] where a topic cannot be made.
    pub async fn open(log: Arc<dyn Log>, config: IngestConfig, topic: TopicConfig) -> Result<Self, IngestError> {
        config.validate()?;
        meter::describe();
        let log_partitions = ensure(&*log, Logs::TOPIC, &topic).await?;
        let metric_partitions = ensure(&*log, Metrics::TOPIC, &topic).await?;
        let span_partitions = ensure(&*log, Spans::TOPIC, &topic).await?;
        let one_partition = TopicConfig { partitions: 1, ..topic.clone() };
        ensure(&*log, MetricMetadata::TOPIC, &one_partition).await?;
        let budget = Budget::new(config.max_in_flight_size_bytes);
        // Eight hex digits tell the runs of one installation apart.
        let run = uuid::Uuid::new_v4().simple().to_string();
        let doors = Arc::new(Doors::new(run.get(..8).unwrap_or_default()));
        Ok(Self {
            log,
            config,
            budget,
            log_partitions,
            metric_partitions,
            span_partitions,
            said: Said::default(),
            doors,
            quotas: None,
        })
    }

    /// Holds tenants to these limits.
    #[must_use]
    pub fn with_quotas(mut self, quotas: Quotas) -> Self {
        self.quotas = Some(quotas);
        self
    }

    /// What the doors have counted since this was opened.
    pub fn doors(&self) -> &Arc<Doors> {
        &self.doors
    }

    /// Takes logs of this process: JSON in any of the forms that `POST /logs` takes. Returns once they are durable.
    ///
    /// # Errors
    /// What the door would answer; see [`IngestError`].
    pub async fn ingest_logs(
        &self,
        tenant: &Tenant,
        body: Bytes,
        key: Option<IdempotencyKey>,
    ) -> Result<IngestReport, IngestError> {
        self.internal::<Logs>(tenant, body, key).await
    }

    /// Takes metrics of this process: JSON in any of the forms that `POST /metrics` takes. Returns once they are durable.
    ///
    /// # Errors
    /// What the door would answer; see [`IngestError`].
    pub async fn ingest_metrics(
        &self,
        tenant: &Tenant,
        body: Bytes,
        key: Option<IdempotencyKey>,
    ) -> Result<IngestReport, IngestError> {
        self.internal::<Metrics>(tenant, body, key).await
    }

    async fn internal<S: Route + Signal>(
        &self,
        tenant: &Tenant,
        body: Bytes,
        key: Option<IdempotencyKey>,
    ) -> Result<IngestReport, IngestError> {
        let limit_bytes = self.config.max_body_size_bytes;
        if body.len() > limit_bytes {
            return Err(IngestError::TooLarge { limit_bytes, decompressed: false });
        }
        let mut reservation = self.reservation();
        reservation.grow(body.len())?;
        let (door, encoding, tenant) = ("internal", Encoding::Identity, tenant.clone());
        let request = Request { door, tenant, body, encoding, inside: Encoding::Identity, key, reservation };
        self.take_json::<S>(request, false).await
    }

    /// The settings.
    pub(super) fn config(&self) -> &IngestConfig {
        &self.config
    }

    /// Bytes that requests hold at this moment.
    #[cfg(test)]
    pub(super) fn in_flight_size_bytes(&self) -> usize {
        self.budget.used_bytes()
    }

    /// A share of the budget for bodies.
    pub(super) fn reservation(&self) -> Reservation {
        self.budget.reservation()
    }

    /// Reads a request of JSON and appends its rows. `lines` says that the sender declared one entry per line.
    pub(super) async fn take_json<S: Route + Signal>(
        &self,
        request: Request,
        lines: bool,
    ) -> Result<IngestReport, IngestError> {
        let prepared = self.prepare::<S, _>(request, move |body, dealer| read_json(body, lines, dealer)).await?;
        self.append(prepared).await.map(|(report, ())| report)
    }

    /// Decompresses a request and reads its rows by `read`, which gets the body and may give something else back.
    pub(super) async fn prepare<S: Route, T: Send + 'static>(
        &self,
        request: Request,
        read: impl FnOnce(&Bytes, &mut Dealer<'_, S>) -> Result<T, IngestError> + Send + 'static,
    ) -> Result<Prepared<S, T>, IngestError> {
        let meter = self.meter::<S>(request.door);
        let prepared = self.read(request, read, meter).await;
        if let Err(error) = &prepared {
            meter.refused(error.code());
        }
        prepared
    }

    async fn read<S: Route, T: Send + 'static>(
        &self,
        request: Request,
        read: impl FnOnce(&Bytes, &mut Dealer<'_, S>) -> Result<T, IngestError> + Send + 'static,
        meter: Meter<'_>,
    ) -> Result<Prepared<S, T>, IngestError> {
        let Request { door, tenant, body, encoding, inside, key, mut reservation } = request;
        let (limit_bytes, limits, partitions) =
            (self.config.max_body_size_bytes, self.config.limits(), S::partitions(self));
        // What this process says of itself, and what it asks for, is not held to a rate.
        let rates = self.quotas.clone().filter(|_| !UNLIMITED.contains(&door));
        let gate = self.quotas.as_ref().map(|quotas| quotas.series(&tenant)).transpose()?.flatten();
        let (for_bytes, for_rows) = (rates.clone(), rates.map(|rates| (rates, tenant.clone())));
        let inline = body.len() <= INLINE_SIZE_BYTES && [encoding, inside] == [Encoding::Identity; 2];
        let work = move || {
            let body = encoding.decode(body, limit_bytes, &mut reservation)?;
            let body = inside.decode(body, limit_bytes, &mut reservation)?;
            if let Some(rates) = for_bytes {
                rates.bytes(&tenant, body.len())?;
            }
            let mut dealer = Dealer::<S>::new(&tenant, partitions, limits, limit_bytes).with_gate(gate);
            let extra = read(&body, &mut dealer)?;
            let batch = dealer.finish()?;
            // One record per request is small change; more is held like a body.
            reservation.grow(batch.encoded_size_bytes.saturating_sub(RECORD_SIZE_BYTES))?;
            let signal = PhantomData;
            Ok::<_, IngestError>((
                body.len(),
                Prepared { tenant, key, batch, door, extra, signal, _reservation: reservation },
            ))
        };
        let (size_bytes, prepared) = if inline {
            work()?
        } else {
            let done = tokio::task::spawn_blocking(work).await;
            done.map_err(|error| IngestError::Abandoned { reason: error.to_string() })??
        };
        meter.read(size_bytes, &prepared.batch);
        let rows = prepared.batch.report.accepted;
        if let Some((rates, tenant)) = for_rows
            && let Err(limited) = rates.rows(&tenant, rows)
        {
            meter.rejected(limited.code(), rows);
            return Err(limited.into());
        }
        Ok(prepared)
    }

    fn meter<S: Route>(&self, door: &'static str) -> Meter<'_> {
        Meter { door, signal: S::TOPIC, doors: &self.doors }
    }

    /// Appends what was prepared.
    pub(super) async fn append<S: Route, T>(&self, prepared: Prepared<S, T>) -> Result<(IngestReport, T), IngestError> {
        let Prepared { tenant, key, batch, door, extra, _reservation, .. } = prepared;
        let meter = self.meter::<S>(door);
        match self.append_batch::<S>(&tenant, key.as_ref(), batch, meter).await {
            Ok(report) => Ok((report, extra)),
            Err(error) => {
                meter.refused(error.code());
                Err(error)
            }
        }
    }

    /// Writes what metrics are, as far as this process has not lately.
    pub(super) async fn describe(
        &self,
        door: &'static str,
        tenant: &Tenant,
        mut described: Vec<Described>,
    ) -> Result<(), IngestError> {
        self.said.retain_new(tenant, &mut described);
        if described.is_empty() {
            return Ok(());
        }
        let mut dealer =
            Dealer::<MetricMetadata>::new(tenant, 1, self.config.limits(), self.config.max_body_size_bytes);
        metadata::deal(&described, &mut dealer);
        let batch = dealer.finish()?;
        let meter = self.meter::<MetricMetadata>(door);
        meter.read(0, &batch);
        self.append_batch::<MetricMetadata>(tenant, None, batch, meter).await?;
        self.said.remember(tenant, &described);
        Ok(())
    }

    /// Appends all partitions at once, so that they share a sync, and the records of one in order.
    async fn append_batch<S: Route>(
        &self,
        tenant: &Tenant,
        key: Option<&IdempotencyKey>,
        batch: Batch,
        meter: Meter<'_>,
    ) -> Result<IngestReport, IngestError> {
        let Batch { partitions, mut report, .. } = batch;
        let topic: Arc<str> = Arc::from(S::TOPIC);
        let appends = (0..).zip(partitions).filter(|(_, records)| !records.is_empty());
        let outcomes = join_all(appends.map(|(partition, records)| {
            let target = Target { topic: Arc::clone(&topic), partition, tenant, key, meter };
            self.append_records(target, records)
        }))
        .await;
        let mut failure = None;
        let (mut stored, mut duplicate) = (0, report.accepted > 0);
        for outcome in outcomes {
            stored += outcome.stored;
            duplicate &= outcome.duplicate;
            failure = failure.or(outcome.failure);
        }
        if let Some(source) = failure {
            return Err(IngestError::Log { source, stored, accepted: report.accepted, keyed: key.is_some() });
        }
        report.duplicate = duplicate;
        Ok(report)
    }

    /// Appends the records of one partition, one after the other, up to the first failure.
    async fn append_records(&self, target: Target<'_>, records: Vec<EncodedRecord>) -> Outcome {
        let Target { topic, partition, tenant, key, meter } = target;
        let mut outcome = Outcome { stored: 0, duplicate: true, failure: None };
        for (number, record) in records.into_iter().enumerate() {
            if outcome.failure.is_some() {
                meter.rejected("log", record.rows);
                continue;
            }
            let size_bytes = record.value.len();
            let origin = Origin::new(meter.door, self.doors.run()).header(meter.signal, record.rows);
            let headers = vec![content_type::header(content_type::ARROW), origin];
            let appended = self.log.append(Append {
                topic: Arc::clone(&topic),
                partition,
                records: vec![Record { value: Some(record.value), headers, ..Record::default() }],
                guard: key.map_or(Guard::None, |key| Guard::Idempotency { scope: key.scope(tenant, number).into() }),
            });
            match appended.await {
                Ok(appended) => {
                    meter.appended(record.rows, size_bytes, appended.duplicate);
                    outcome.stored += record.rows;
                    outcome.duplicate &= appended.duplicate;
                }
                Err(error) => {
                    meter.rejected("log", record.rows);
                    outcome.failure = Some(error);
                }
            }
        }
        outcome
    }
}

/// Where a partition's share of a request goes.
struct Target<'a> {
    topic: Arc<str>,
    partition: i32,
    tenant: &'a Tenant,
    key: Option<&'a IdempotencyKey>,
    meter: Meter<'a>,
}

/// What became of a partition's share of a request.
struct Outcome {
    stored: u64,
    duplicate: bool,
    failure: Option<LogError>,
}

async fn ensure(log: &dyn Log, topic: &'static str, config: &TopicConfig) -> Result<i32, IngestError> {
    let info = log.ensure_topic(topic, config.clone()).await.map_err(|source| IngestError::Topic { topic, source })?;
    Ok(info.config.partitions)
}
