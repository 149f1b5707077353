//! This process's member of the group: which partitions it is to work on.
//!
//! A consumer that subscribes and never reads: what it is assigned is paused, and the tasks read through [`super::lanes`]. It lives on a
//! thread of its own, because a rebalance is answered by *not* returning from a callback until the partitions are let go. Partitions move
//! cooperatively: those that stay are not touched. The group's protocol, its heartbeats and its timeouts are librdkafka's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError as Rdkafka, RDKafkaErrorCode as Code};
use rdkafka::{ClientContext, TopicPartitionList};
use tokio::sync::{mpsc, oneshot};

use super::cluster::Cluster;
use super::context::Context;
use super::error::{KafkaError, Kind, kind_of};
use super::offsets::Offsets;
use super::tasks::Tasks;
use crate::log::{Change, Done, LogError, Membership, TopicPartition};

/// The longest a rebalance waits for partitions to be let go; below `max.poll.interval.ms`, past which the group would give up on us.
const LONGEST_REVOKE: Duration = Duration::from_secs(60);
/// How long a pass of the thread waits for something to happen.
const POLL: Duration = Duration::from_millis(100);

type Event = Result<Change, LogError>;

/// The context of the member's consumer: turns rebalances into changes.
pub(super) struct MemberContext {
    inner: Context,
    changes: mpsc::UnboundedSender<Event>,
    tasks: Arc<Tasks>,
    /// Set once the work has stopped: nothing is waited for any more.
    leaving: AtomicBool,
}

impl ClientContext for MemberContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.inner.log(level, facility, message);
    }

    fn error(&self, error: Rdkafka, reason: &str) {
        self.inner.error(error, reason);
    }
}

impl ConsumerContext for MemberContext {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(list) = rebalance else { return };
        let partitions = partitions(list);
        if partitions.is_empty() || self.leaving.load(Ordering::SeqCst) {
            return;
        }
        if consumer.assignment_lost() {
            tracing::warn!(
                partitions = partitions.len(),
                "the group gave this process up and its partitions to others"
            );
            self.tasks.end(&partitions);
            self.tell(Ok(Change::Lost(partitions)));
            return;
        }
        let (done, dropped) = Done::new();
        self.tell(Ok(Change::Revoked { partitions: partitions.clone(), done }));
        if !wait(dropped) {
            tracing::error!(
                partitions = partitions.len(),
                waited_ms = LONGEST_REVOKE.as_millis(),
                "partitions are handed on although they are still being worked on; their old runs will be fenced"
            );
        }
        self.tasks.end(&partitions);
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => {
                if let Err(error) = consumer.pause(list) {
                    tracing::warn!(%error, "assigned partitions were not paused: they are fetched and thrown away");
                }
                let partitions = partitions(list);
                if !partitions.is_empty() {
                    self.tell(Ok(Change::Assigned(partitions)));
                }
            }
            Rebalance::Revoke(_) => {}
            Rebalance::Error(error) => tracing::warn!(%error, "rebalance failed; the group tries again"),
        }
    }
}

impl MemberContext {
    fn tell(&self, event: Event) {
        // Nobody listens once the membership has been dropped.
        self.changes.send(event).ok();
    }
}

/// Waits for the drop of a [`Done`]; false where that takes too long. Heartbeats go on meanwhile: they are librdkafka's own.
fn wait(mut dropped: oneshot::Receiver<()>) -> bool {
    let pause = Duration::from_millis(5);
    let mut left = LONGEST_REVOKE;
    while let Err(oneshot::error::TryRecvError::Empty) = dropped.try_recv() {
        let Some(less) = left.checked_sub(pause) else { return false };
        left = less;
        std::thread::sleep(pause);
    }
    true
}

fn partitions(list: &TopicPartitionList) -> Vec<TopicPartition> {
    let elements = list.elements();
    elements.iter().map(|e| TopicPartition { topic: e.topic().into(), partition: e.partition() }).collect()
}

/// [`Membership`] of a Kafka consumer group. Dropped, its thread stops at the next pass and leaves the group without waiting for anybody.
pub(super) struct KafkaMember {
    cluster: Arc<Cluster>,
    consumer: Weak<BaseConsumer<MemberContext>>,
    changes: mpsc::UnboundedReceiver<Event>,
    stop: Arc<AtomicBool>,
    ended: Option<oneshot::Receiver<()>>,
}

impl KafkaMember {
    pub(super) fn join(
        cluster: &Arc<Cluster>,
        offsets: &Arc<Offsets>,
        tasks: &Arc<Tasks>,
        topics: &[String],
    ) -> Result<Self, LogError> {
        let (sender, changes) = mpsc::unbounded_channel();
        let context = MemberContext {
            inner: cluster.context("member"),
            changes: sender,
            tasks: Arc::clone(tasks),
            leaving: AtomicBool::new(false),
        };
        let made = cluster.config.member().create_with_context(context);
        let consumer: Arc<BaseConsumer<MemberContext>> = Arc::new(
            made.map_err(|error| KafkaError::Config { reason: format!("the member cannot be made: {error}") })?,
        );
        subscribe(cluster, &consumer, topics)?;
        offsets.joined(&consumer);
        let (stop, (ending, ended)) = (Arc::new(AtomicBool::new(false)), oneshot::channel());
        let member = Self {
            cluster: Arc::clone(cluster),
            consumer: Arc::downgrade(&consumer),
            changes,
            stop: Arc::clone(&stop),
            ended: Some(ended),
        };
        let cluster = Arc::clone(cluster);
        std::thread::Builder::new()
            .name("kafka-member".into())
            .spawn(move || {
                serve(&cluster, &consumer, &stop);
                consumer.context().leaving.store(true, Ordering::SeqCst);
                consumer.unsubscribe();
                // Leaves the group, unless the member is a static one that comes back.
                drop(consumer);
                drop(ending);
            })
            .map_err(|error| member.cluster.unavailable("joining the group", format!("no thread: {error}")))?;
        Ok(member)
    }
}

/// Polls until told to stop. What comes is never a record to keep.
fn serve(cluster: &Cluster, consumer: &BaseConsumer<MemberContext>, stop: &AtomicBool) {
    let silenced = Mutex::new(None::<Code>);
    while !stop.load(Ordering::SeqCst) {
        let error = match consumer.poll(POLL) {
            None | Some(Ok(_)) => continue,
            Some(Err(error)) => error,
        };
        let Some(code) = error.rdkafka_error_code() else { continue };
        let is_final = matches!(error, Rdkafka::MessageConsumptionFatal(_))
            || matches!(kind_of(code), Kind::Credentials | Kind::NotAllowed(_))
            || matches!(code, Code::FencedInstanceId | Code::InconsistentGroupProtocol);
        if !is_final {
            tracing::debug!(%error, "member of the group");
            continue;
        }
        // librdkafka says it again and again.
        if silenced.lock().replace(code) != Some(code) {
            consumer.context().tell(Err(cluster.failed("membership of the group", &error)));
        }
    }
}

fn subscribe(cluster: &Cluster, consumer: &BaseConsumer<MemberContext>, topics: &[String]) -> Result<(), LogError> {
    let names: Vec<_> = topics.iter().map(String::as_str).collect();
    cluster.outcome("the subscription of the group", consumer.subscribe(&names))
}

#[async_trait]
impl Membership for KafkaMember {
    async fn next(&mut self) -> Result<Change, LogError> {
        self.changes.recv().await.unwrap_or(Err(KafkaError::Closed.into()))
    }

    async fn subscribe(&mut self, topics: Vec<String>) -> Result<(), LogError> {
        let consumer = self.consumer.upgrade().ok_or(KafkaError::Closed)?;
        subscribe(&self.cluster, &consumer, &topics)
    }

    async fn leave(mut self: Box<Self>) {
        if let Some(consumer) = self.consumer.upgrade() {
            consumer.context().leaving.store(true, Ordering::SeqCst);
        }
        self.stop.store(true, Ordering::SeqCst);
        // A revoke in hand waits for tokens nobody will read.
        self.changes.close();
        while self.changes.recv().await.is_some() {}
        if let Some(ended) = self.ended.take() {
            // Ends by being dropped.
            ended.await.ok();
        }
    }
}

impl Drop for KafkaMember {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}
