//! Idempotency keys of senders. Kafka remembers none, so they are kept in a topic of their own, `__highwater.keys`, which every process
//! that takes keyed appends follows from 24 hours back.
//!
//! An append with a key goes: *intent* into the keys topic; read that topic up to the intent; where it is the first of its key, the data; then
//! *done*. The one partition of the keys topic puts all intents in one order, so of several gateways that got the same key all know
//! who was first, and after a crash the next one finds the intent. Where the first one did not say *done*, the data's partition itself
//! is asked: its records carry the key in a header.
//!
//! | record | key | value |
//! |---|---|---|
//! | intent | xxh3-128 of topic NUL partition NUL scope | `0x01` |
//! | done | the same | `0x02`, then as i64, big-endian: first offset, last offset, append time in ms |
//!
//! What is not exact: a first gateway that stalls for longer than [`PATIENCE`] between its intent and its data, while the sender already tries
//! again at another one, may append behind it. A crash at any point is not such a case.

mod book;
mod search;

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use highwater_broker::{Append, Appended, Guard, IDEMPOTENCY_HEADER, IDEMPOTENCY_HORIZON_MS, Record, TopicConfig};
use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as Rdkafka;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::{OnceCell, watch};

use super::appends::Appends;
use super::cluster::Cluster;
use super::context::Context;
use super::topics::Topics;
use super::watermarks::Watermarks;
use crate::log::{LogError, TopicPartition};
use book::{Book, Done, Entry, Hash};

/// The topic of keys.
pub(super) const TOPIC: &str = "__highwater.keys";
/// How long the first gateway of a key may take before its data is looked for.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a key waits for its own intent to come back.
const ECHO: Duration = Duration::from_secs(10);
/// Clocks of brokers may differ by this much.
const SKEW_MS: i64 = 60_000;

pub(super) struct Keys {
    cluster: Arc<Cluster>,
    topics: Arc<Topics>,
    watermarks: Arc<Watermarks>,
    appends: Arc<Appends>,
    followed: OnceCell<Followed>,
}

/// The keys topic as far as it has been read.
struct Followed {
    book: Arc<Mutex<Book>>,
    /// The next offset of the keys topic.
    position: watch::Receiver<i64>,
    /// Its end ends the thread.
    _alive: Arc<()>,
}

impl Keys {
    pub(super) fn new(
        cluster: &Arc<Cluster>,
        topics: &Arc<Topics>,
        watermarks: &Arc<Watermarks>,
        appends: &Arc<Appends>,
    ) -> Self {
        Self {
            cluster: Arc::clone(cluster),
            topics: Arc::clone(topics),
            watermarks: Arc::clone(watermarks),
            appends: Arc::clone(appends),
            followed: OnceCell::new(),
        }
    }

    /// Appends unless the partition has a record with this key already.
    pub(super) async fn write(&self, append: &Append, scope: &str) -> Result<Appended, LogError> {
        let followed = self.followed.get_or_try_init(|| self.follow()).await?;
        let hash = book::hash(&append.topic, append.partition, scope);
        let now_ms = self.cluster.clock.now_ms();
        if let Some(done) = followed.book.lock().done(hash, now_ms) {
            return Ok(done.appended(true));
        }
        let intent = self.appends.write(&record(hash, &[book::INTENT]), None).await?;
        followed.wait_for(intent.base_offset, ECHO, &self.cluster).await?;
        let first = followed.book.lock().entry(hash, now_ms);
        let first = match first {
            // Ours was the first, or everything of the key was forgotten because there are too many.
            None => None,
            Some(entry) if entry.offset == intent.base_offset => None,
            Some(entry) => Some(entry),
        };
        if let Some(first) = first
            && let Some(done) = self.outcome(followed, hash, first, append, scope).await?
        {
            return Ok(done.appended(true));
        }
        let written = self.appends.write(append, Some((IDEMPOTENCY_HEADER, scope.as_bytes()))).await?;
        self.say_done(hash, Done::of(&written));
        Ok(written)
    }

    /// What became of an earlier append with the key: where it is, or `None` where it is nowhere.
    async fn outcome(
        &self,
        followed: &Followed,
        hash: Hash,
        first: Entry,
        append: &Append,
        scope: &str,
    ) -> Result<Option<Done>, LogError> {
        let fresh = self.cluster.clock.now_ms().abs_diff(first.at_ms) < PATIENCE.as_millis() as u64;
        if fresh {
            let mut position = followed.position.clone();
            let heard = async {
                while followed.book.lock().entry(hash, first.at_ms).is_some_and(|entry| entry.done.is_none()) {
                    if position.changed().await.is_err() {
                        break;
                    }
                }
            };
            // Not heard is what is looked into next.
            tokio::time::timeout(PATIENCE, heard).await.ok();
        }
        if let Some(done) = followed.book.lock().entry(hash, first.at_ms).and_then(|entry| entry.done) {
            return Ok(Some(done));
        }
        let at = TopicPartition { topic: Arc::clone(&append.topic), partition: append.partition };
        let from_ms = first.at_ms.saturating_sub(SKEW_MS);
        let found = search::find(&self.cluster, &self.watermarks, &at, from_ms, scope).await?;
        if let Some(done) = found {
            self.say_done(hash, done);
        }
        Ok(found)
    }

    /// Tells the others. Where that fails they find the data instead.
    fn say_done(&self, hash: Hash, done: Done) {
        let (appends, value) = (Arc::clone(&self.appends), done.to_bytes());
        tokio::spawn(async move {
            if let Err(error) = appends.write(&record(hash, &value), None).await {
                tracing::warn!(%error, "an idempotency key is not marked as done; a retry will look for its data");
            }
        });
    }

    /// Reads the keys of the last 24 hours, and goes on reading.
    async fn follow(&self) -> Result<Followed, LogError> {
        // An hour more than is remembered, so that nothing goes while it counts.
        let retention_ms = IDEMPOTENCY_HORIZON_MS + 60 * 60 * 1000;
        let config = TopicConfig { retention_ms: Some(retention_ms), ..TopicConfig::with_partitions(1) };
        self.topics.ensure(TOPIC, config).await?;
        let at = TopicPartition { topic: TOPIC.into(), partition: 0 };
        let since_ms = self.cluster.clock.now_ms().saturating_sub(IDEMPOTENCY_HORIZON_MS);
        let end = self.watermarks.fresh(&at).await?.high_watermark;
        let start = self.watermarks.offset_for_time(TOPIC, 0, since_ms).await?.unwrap_or(end);
        let consumer: BaseConsumer<Context> =
            self.cluster.create(&self.cluster.config.reader("read_uncommitted"), "keys")?;
        assign(&consumer, start).map_err(|error| self.cluster.failed("reading idempotency keys", &error))?;

        let book = Arc::new(Mutex::new(Book::default()));
        let (sender, position) = watch::channel(start);
        let alive = Arc::new(());
        let (watched, written) = (Arc::downgrade(&alive), Arc::clone(&book));
        std::thread::Builder::new()
            .name("kafka-keys".into())
            .spawn(move || serve(&consumer, start, &written, &sender, &watched))
            .map_err(|error| self.cluster.unavailable("reading idempotency keys", format!("no thread: {error}")))?;
        let followed = Followed { book, position, _alive: alive };
        if end > start {
            followed.wait_for(end - 1, Duration::from_secs(60), &self.cluster).await?;
        }
        tracing::info!(keys = followed.book.lock().len(), "idempotency keys of the last 24 hours read");
        Ok(followed)
    }
}

impl Followed {
    /// Waits until the record at `offset` has been read.
    async fn wait_for(&self, offset: i64, patience: Duration, cluster: &Cluster) -> Result<(), LogError> {
        let mut position = self.position.clone();
        let read = position.wait_for(|next| *next > offset);
        match tokio::time::timeout(patience, read).await {
            Ok(Ok(_)) => Ok(()),
            _ => {
                Err(cluster
                    .unavailable("reading idempotency keys", format!("{TOPIC}/0 is not read up to {offset} yet")))
            }
        }
    }
}

/// Reads the keys topic until nobody needs it.
fn serve(
    consumer: &BaseConsumer<Context>,
    start: i64,
    book: &Mutex<Book>,
    position: &watch::Sender<i64>,
    alive: &Weak<()>,
) {
    let mut next = start;
    while alive.strong_count() > 0 {
        match consumer.poll(Duration::from_millis(100)) {
            None | Some(Err(Rdkafka::PartitionEOF(_))) => {}
            Some(Ok(message)) => {
                next = message.offset() + 1;
                let at_ms = message.timestamp().to_millis().unwrap_or(0);
                book.lock().read(message.offset(), at_ms, message.key(), message.payload());
                position.send_replace(next);
            }
            Some(Err(error)) => {
                // Transport errors pass by themselves; an offset that retention took does not.
                tracing::warn!(%error, "reading idempotency keys");
                if let Err(error) = consumer.unassign().and_then(|()| assign(consumer, next)) {
                    tracing::warn!(%error, "reading idempotency keys anew");
                }
                std::thread::sleep(Duration::from_millis(500));
            }
        }
    }
}

fn assign(consumer: &BaseConsumer<Context>, offset: i64) -> Result<(), Rdkafka> {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition_offset(TOPIC, 0, Offset::Offset(offset))?;
    consumer.assign(&list)
}

/// A record of the keys topic.
fn record(hash: Hash, value: &[u8]) -> Append {
    static NAME: OnceLock<Arc<str>> = OnceLock::new();
    let record = Record {
        key: Some(hash.to_be_bytes().to_vec().into()),
        value: Some(value.to_vec().into()),
        ..Record::default()
    };
    let topic = Arc::clone(NAME.get_or_init(|| TOPIC.into()));
    Append { topic, partition: 0, records: vec![record], guard: Guard::None }
}
