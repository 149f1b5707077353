//! How many readers share a few consumers.
//!
//! Many readers (tasks, tables, queries) read the same partitions at offsets of their own. A librdkafka consumer holds one position
//! per partition, so there are several consumers, the *lanes*: the first reader of a partition is on lane 0, a second one elsewhere in
//! it on lane 1, and so on. A reader is known by where it goes on: the read that begins where another ended gets its [`Slot`].
//! Slots nobody came back for are given to others, and after a while let go with what was fetched ahead for them.
//!
//! Readers at the same offset read once: the first one waits, the others wait for it, and take what it found. So any number of them may
//! follow the end of a partition.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use highwater_broker::{Fetched, PartitionOffsets, StoredRecord};
use parking_lot::Mutex;
use rdkafka::consumer::BaseConsumer;
use tokio::sync::Notify;

use super::cluster::Cluster;
use super::context::Context;
use super::slot::{Drained, Slot};
use super::watermarks::Watermarks;
use crate::log::{LogError, TopicPartition};

/// Readers of one partition at different offsets at the same moment; more wait for each other.
const MAX_LANES: usize = 8;
/// A slot unused for this long may be moved to another offset.
const ABANDONED_MS: u64 = 2_000;
/// A slot unused for this long is let go.
const IDLE_MS: u64 = 30_000;
/// How long what was read last is kept for others.
const SHARED_MS: u64 = 5_000;
/// How old a high watermark may be where nothing new has come.
const FRESH_MS: u64 = 1_000;
/// What is known to be there is waited for at least this long, whatever the caller would wait for what is not.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) struct Lanes {
    cluster: Arc<Cluster>,
    watermarks: Arc<Watermarks>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    consumers: Vec<Arc<BaseConsumer<Context>>>,
    partitions: HashMap<TopicPartition, Places>,
}

/// The slots of one partition.
#[derive(Default)]
struct Places {
    idle: Vec<Slot>,
    busy: Vec<Busy>,
    last: Option<Batch>,
    /// Told of each slot that comes back. Readers that wait hold it, and with it these places.
    returned: Arc<Notify>,
}

/// A slot that is with a reader.
struct Busy {
    lane: usize,
    /// Where that reader began.
    offset: i64,
}

/// What was read last: others may want the same.
#[derive(Clone)]
struct Batch {
    offset: i64,
    next_offset: i64,
    records: Arc<[StoredRecord]>,
    size_bytes: usize,
    at_ms: i64,
}

/// What a reader finds.
enum Found {
    /// Somebody has just read from this offset.
    Batch(Batch),
    Slot(Slot),
    /// Somebody waits for the same records.
    Follow,
    /// Every lane has a reader in this partition.
    Full,
}

impl Lanes {
    pub(super) fn new(cluster: &Arc<Cluster>, watermarks: &Arc<Watermarks>) -> Self {
        Self { cluster: Arc::clone(cluster), watermarks: Arc::clone(watermarks), state: Mutex::default() }
    }

    /// See [`crate::log::Log::read`]. May be dropped at any time: what is not answered is there for the next read.
    pub(super) async fn read(
        &self,
        at: &TopicPartition,
        offset: i64,
        max_size_bytes: usize,
        max_wait: Duration,
    ) -> Result<Fetched, LogError> {
        let mut deadline = pin!(tokio::time::sleep(max_wait));
        let mut waited = max_wait.is_zero();
        let mut lease = loop {
            let somebody = Arc::clone(&self.state.lock().partitions.entry(at.clone()).or_default().returned);
            let mut returned = pin!(somebody.notified());
            returned.as_mut().enable();
            match self.find(at, offset, max_size_bytes)? {
                Found::Slot(slot) => break Lease { lanes: self, at: at.clone(), slot: Some(slot) },
                Found::Batch(batch) => {
                    let PartitionOffsets { log_start, high_watermark } = self.watermarks.reached(at, batch.next_offset);
                    let (records, next_offset) = (batch.records.to_vec(), batch.next_offset);
                    return Ok(Fetched { records, next_offset, high_watermark, log_start, gaps: Vec::new() });
                }
                Found::Follow if waited => {
                    let PartitionOffsets { log_start, high_watermark } = self.watermarks.within(at, FRESH_MS).await?;
                    if offset >= high_watermark {
                        return Ok(Fetched { next_offset: offset, high_watermark, log_start, ..Fetched::default() });
                    }
                    returned.await;
                }
                Found::Follow => tokio::select! {
                    () = &mut returned => {}
                    () = &mut deadline => waited = true,
                },
                Found::Full => returned.await,
            }
        };
        let slot = lease.slot()?;
        if slot.next_offset() != Some(offset) {
            let offsets = self.watermarks.fresh(at).await?;
            check_bounds(at, offset, offsets)?;
            slot.assign(offset)
                .map_err(|error| self.cluster.failed(&format!("reading {}/{}", at.topic, at.partition), &error))?;
        }
        let mut patience = pin!(tokio::time::sleep(max_wait.max(PATIENCE)));
        let mut lost_patience = false;
        loop {
            if !slot.settle().await {
                let doing = format!("reading {}/{}", at.topic, at.partition);
                return Err(self.cluster.unavailable(&doing, "a former place in it does not end"));
            }
            let drained = slot.drain(max_size_bytes);
            if !drained.records.is_empty() {
                let next_offset = slot.next_offset().unwrap_or(offset);
                let PartitionOffsets { log_start, high_watermark } = self.watermarks.reached(at, next_offset);
                self.share(at, offset, next_offset, &drained);
                return Ok(Fetched {
                    records: drained.records,
                    next_offset,
                    high_watermark,
                    log_start,
                    gaps: Vec::new(),
                });
            }
            if let Some(error) = drained.error {
                return Err(self.unreadable(at, slot, &error).await);
            }
            // Nothing is delivered for markers and aborted batches, but they are passed.
            slot.pass_markers();
            let offsets = self.watermarks.within(at, FRESH_MS).await?;
            let next_offset = slot.next_offset().unwrap_or(offset);
            slot.prove(offsets.high_watermark, self.cluster.clock.now_ms());
            let at_end = next_offset >= offsets.high_watermark;
            if next_offset > offset || waited && (at_end || lost_patience) {
                let PartitionOffsets { log_start, high_watermark } = self.watermarks.reached(at, next_offset);
                return Ok(Fetched { next_offset, high_watermark, log_start, ..Fetched::default() });
            }
            tokio::select! {
                () = slot.arrived() => {}
                () = &mut deadline, if !waited => waited = true,
                () = &mut patience, if !lost_patience => lost_patience = true,
            }
        }
    }

    /// A slot for a read from `offset` on, the one that stands there or else one that is free; or what makes it unnecessary.
    fn find(&self, at: &TopicPartition, offset: i64, max_size_bytes: usize) -> Result<Found, LogError> {
        let now_ms = self.cluster.clock.now_ms();
        let mut state = self.state.lock();
        let State { consumers, partitions } = &mut *state;
        let places = partitions.entry(at.clone()).or_default();
        let fits =
            |batch: &&Batch| batch.offset == offset && (batch.records.len() == 1 || batch.size_bytes <= max_size_bytes);
        if let Some(batch) = places.last.as_ref().filter(fits) {
            return Ok(Found::Batch(batch.clone()));
        }
        if places.busy.iter().any(|busy| busy.offset == offset) {
            return Ok(Found::Follow);
        }
        let oldest = || {
            let by_age = places.idle.iter().enumerate().max_by_key(|(_, slot)| now_ms.abs_diff(slot.used_ms()));
            by_age.map(|(index, slot)| (index, now_ms.abs_diff(slot.used_ms())))
        };
        let continued = places.idle.iter().position(|slot| slot.next_offset() == Some(offset));
        let free_lane = (0..MAX_LANES).find(|lane| {
            places.busy.iter().all(|busy| busy.lane != *lane) && places.idle.iter().all(|slot| slot.lane() != *lane)
        });
        // A lane that is there anyway goes before somebody's place, a place nobody came back for before another lane.
        let index = match (continued, oldest(), free_lane) {
            (Some(index), _, _) => index,
            (None, Some((index, age_ms)), lane)
                if lane.is_none_or(|lane| lane >= consumers.len() && age_ms > ABANDONED_MS) =>
            {
                index
            }
            (None, _, Some(lane)) => {
                while consumers.len() <= lane {
                    let role = format!("reader {}", consumers.len());
                    let reader = self.cluster.config.reader("read_committed");
                    consumers.push(Arc::new(self.cluster.create(&reader, &role)?));
                }
                let slot = Slot::new(lane, &consumers[lane], at, now_ms)
                    .ok_or_else(|| self.cluster.unavailable("a reader's queue", "librdkafka gave none"))?;
                places.busy.push(Busy { lane, offset });
                return Ok(Found::Slot(slot));
            }
            (None, _, None) => return Ok(Found::Full),
        };
        let slot = places.idle.swap_remove(index);
        places.busy.push(Busy { lane: slot.lane(), offset });
        Ok(Found::Slot(slot))
    }

    fn share(&self, at: &TopicPartition, offset: i64, next_offset: i64, drained: &Drained) {
        let (records, size_bytes) = (drained.records.clone().into(), drained.size_bytes);
        let batch = Batch { offset, next_offset, records, size_bytes, at_ms: self.cluster.clock.now_ms() };
        if let Some(places) = self.state.lock().partitions.get_mut(at) {
            places.last = Some(batch);
        }
    }

    fn give_back(&self, at: &TopicPartition, mut slot: Slot) {
        let mut state = self.state.lock();
        let Some(places) = state.partitions.get_mut(at) else { return };
        places.busy.retain(|busy| busy.lane != slot.lane());
        if slot.next_offset().is_some() {
            slot.used(self.cluster.clock.now_ms());
            places.idle.push(slot);
        }
        places.returned.notify_waiters();
    }

    /// What librdkafka says instead of records. The slot stands nowhere after it, so that nothing is passed over.
    async fn unreadable(&self, at: &TopicPartition, slot: &mut Slot, error: &rdkafka::error::KafkaError) -> LogError {
        use rdkafka::error::RDKafkaErrorCode as Code;
        let offset = slot.next_offset().unwrap_or_default();
        slot.leave();
        let doing = format!("reading {}/{} from offset {offset} on", at.topic, at.partition);
        match error.rdkafka_error_code() {
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => {
                match self.watermarks.fresh(at).await.and_then(|offsets| check_bounds(at, offset, offsets)) {
                    Err(error) => error,
                    Ok(()) => self.cluster.unavailable(&doing, "the offset was out of range for a moment"),
                }
            }
            Some(Code::BadMessage | Code::BadCompression | Code::InvalidMessage | Code::NotImplemented) => {
                super::error::KafkaError::Unreadable {
                    topic: at.topic.to_string(),
                    partition: at.partition,
                    offset,
                    reason: super::cluster::reason_of(error),
                }
                .into()
            }
            _ => match self.cluster.outcome_of::<()>(&doing, &at.topic, at.partition, Err(error.clone())) {
                Err(error) => error,
                Ok(()) => self.cluster.unavailable(&doing, "it ended for no reason"),
            },
        }
    }

    /// Serves the consumers' own queues, which hold no records, and lets idle slots go.
    pub(super) fn tend(&self) {
        let consumers = self.state.lock().consumers.clone();
        for consumer in consumers {
            while consumer.poll(Duration::ZERO).is_some() {}
        }
        let now_ms = self.cluster.clock.now_ms();
        let mut gone = Vec::new();
        let mut state = self.state.lock();
        state.partitions.retain(|_, places| {
            let old = |slot: &mut Slot| now_ms.abs_diff(slot.used_ms()) > IDLE_MS;
            gone.extend(places.idle.extract_if(.., old));
            places.last.take_if(|batch| now_ms.abs_diff(batch.at_ms) > SHARED_MS);
            let waited_for = Arc::strong_count(&places.returned) > 1;
            !places.idle.is_empty() || !places.busy.is_empty() || places.last.is_some() || waited_for
        });
        drop(state);
        drop(gone);
    }

    /// Nobody reads a deleted topic on.
    pub(super) fn forget(&self, topic: &str) {
        let mut gone = Vec::new();
        for (at, places) in &mut self.state.lock().partitions {
            if &*at.topic == topic {
                gone.append(&mut places.idle);
                places.last = None;
            }
        }
        drop(gone);
    }
}

/// A slot on loan. Comes back by being dropped.
struct Lease<'a> {
    lanes: &'a Lanes,
    at: TopicPartition,
    slot: Option<Slot>,
}

impl Lease<'_> {
    fn slot(&mut self) -> Result<&mut Slot, LogError> {
        self.slot.as_mut().ok_or_else(|| super::error::KafkaError::Closed.into())
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.lanes.give_back(&self.at, slot);
        }
    }
}

fn check_bounds(at: &TopicPartition, offset: i64, offsets: PartitionOffsets) -> Result<(), LogError> {
    let PartitionOffsets { log_start, high_watermark } = offsets;
    if (log_start..=high_watermark).contains(&offset) {
        return Ok(());
    }
    let (topic, partition) = (at.topic.to_string(), at.partition);
    Err(LogError::OffsetOutOfRange { topic, partition, offset, log_start, high_watermark })
}
