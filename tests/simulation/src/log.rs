//! The embedded log as tasks and doors reach it in a history: it takes its time, and sometimes its answer is lost.
//!
//! Behind it is the real [`EmbeddedLog`] over a real broker without threads. What is added: pauses before and after each call, which shuffle
//! who comes first and now and then hold a caller up for so long that others take it for dead; answers that are lost after the
//! call was carried out; reads that end where chance has it.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use highwater_broker::BrokerError;
use highwater_pipeline::log::{
    Append, Appended, CommittedOffset, EmbeddedLog, Fetched, Log, LogError, Membership, PartitionOffsets, SoleMember,
    TopicConfig, TopicInfo,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::coverage::Coverage;
use crate::random::Random;
use crate::time::Time;
use crate::trace::Trace;

/// Bells between those who ask of a broker and those who do its work.
#[derive(Debug)]
pub struct Bells {
    /// One per writer, and the last for the committer: there may be work.
    pub work: Vec<Notify>,
    /// Something was done: readers look again.
    pub moved: Notify,
}

impl Bells {
    /// For so many writers.
    pub fn new(writers: usize) -> Self {
        Self { work: (0..=writers).map(|_| Notify::new()).collect(), moved: Notify::new() }
    }

    fn ring(&self) {
        self.work.iter().for_each(Notify::notify_one);
    }
}

/// What a history may do to callers of its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manners {
    /// Answers lost of a thousand calls.
    pub lost_replies: u64,
    /// Calls of a thousand that hang for up to half a minute.
    pub hangs: u64,
}

/// See the module's text.
pub struct SimLog {
    inner: EmbeddedLog,
    bells: Arc<Bells>,
    time: Time,
    random: Mutex<Random>,
    manners: Mutex<Manners>,
    trace: Trace,
    coverage: Coverage,
}

impl SimLog {
    /// Over a broker whose work somebody does when the bells ring.
    pub fn new(
        inner: EmbeddedLog,
        bells: Arc<Bells>,
        time: Time,
        random: Random,
        manners: Manners,
        trace: Trace,
        coverage: Coverage,
    ) -> Self {
        Self { inner, bells, time, random: Mutex::new(random), manners: Mutex::new(manners), trace, coverage }
    }

    /// From now on it answers at once and loses nothing.
    pub fn behave(&self) {
        *self.manners.lock() = Manners { lost_replies: 0, hangs: 0 };
    }

    async fn pause(&self) {
        let ms = {
            let mut random = self.random.lock();
            let hangs = self.manners.lock().hangs;
            match random.between(0, 1_000) {
                _ if random.chance(hangs) => random.between(500, 30_000),
                0..600 => 0,
                600..950 => random.between(1, 5),
                _ => random.between(5, 100),
            }
        };
        if ms > 0 {
            self.time.pause_ms(ms).await;
        }
    }

    /// A call that somebody else carries out.
    async fn call<T>(
        &self,
        what: impl FnOnce() -> String,
        call: impl Future<Output = Result<T, LogError>>,
    ) -> Result<T, LogError>
    where
        T: std::fmt::Debug,
    {
        self.pause().await;
        let mut call = pin!(call);
        let result = poll_fn(|context| {
            let polled = call.as_mut().poll(context);
            self.bells.ring();
            polled
        })
        .await;
        self.trace.note(format_args!("{} -> {result:?}", what()));
        self.note(&result);
        self.pause().await;
        let lost_replies = self.manners.lock().lost_replies;
        if result.is_ok() && self.random.lock().chance(lost_replies) {
            self.coverage.met("replies lost");
            // The one error that callers try again after.
            return Err(LogError::Broker(BrokerError::DiskFull {
                path: "an answer that was lost".into(),
                needed_bytes: 0,
            }));
        }
        result
    }

    fn note<T>(&self, result: &Result<T, LogError>) {
        match result {
            Err(LogError::Fenced { .. }) => self.coverage.met("calls of fenced runs refused"),
            Err(LogError::Broker(BrokerError::DiskFull { .. })) => self.coverage.met("calls refused for want of room"),
            Err(LogError::Broker(BrokerError::Stopped { .. })) => {
                self.coverage.met("calls refused after a failed sync")
            }
            _ => {}
        }
    }
}

#[async_trait]
impl Log for SimLog {
    async fn ensure_topic(&self, name: &str, config: TopicConfig) -> Result<TopicInfo, LogError> {
        self.call(|| format!("ensure {name}"), self.inner.ensure_topic(name, config)).await
    }

    async fn delete_topic(&self, name: &str) -> Result<(), LogError> {
        self.call(|| format!("delete {name}"), self.inner.delete_topic(name)).await
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>, LogError> {
        self.inner.topics().await
    }

    async fn topic(&self, name: &str) -> Result<Option<TopicInfo>, LogError> {
        self.inner.topic(name).await
    }

    async fn append(&self, append: Append) -> Result<Appended, LogError> {
        let what = format!("append {} to {}/{}", append.records.len(), append.topic, append.partition);
        let appended = self.call(|| what, self.inner.append(append)).await?;
        self.coverage.met_times("effects suppressed", appended.suppressed as u64);
        if appended.duplicate {
            self.coverage.met("keyed requests known");
        }
        Ok(appended)
    }

    async fn read(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_size_bytes: usize,
        max_wait: Duration,
    ) -> Result<Fetched, LogError> {
        self.pause().await;
        let size = *self.random.lock().pick(&[1, 300, 3_000, 30_000, 300_000]);
        let until_ms = self.time.elapsed_ms() + i64::try_from(max_wait.as_millis()).unwrap_or(i64::MAX / 4);
        loop {
            let mut moved = pin!(self.bells.moved.notified());
            moved.as_mut().enable();
            let fetched = self.inner.read(topic, partition, offset, max_size_bytes.min(size), Duration::ZERO).await;
            let left_ms = until_ms - self.time.elapsed_ms();
            match fetched {
                Ok(fetched) if fetched.next_offset == offset && left_ms > 0 => {
                    let waited = pin!(self.time.pause_ms(left_ms));
                    futures::future::select(moved, waited).await;
                }
                result => {
                    self.trace.note(format_args!(
                        "read {topic}/{partition} from {offset} -> {:?}",
                        result.as_ref().map(|f| (f.records.len(), f.next_offset))
                    ));
                    return result;
                }
            }
        }
    }

    async fn offsets(&self, topic: &str, partition: i32) -> Result<PartitionOffsets, LogError> {
        self.inner.offsets(topic, partition).await
    }

    async fn offset_for_time(&self, topic: &str, partition: i32, timestamp_ms: i64) -> Result<Option<i64>, LogError> {
        self.inner.offset_for_time(topic, partition, timestamp_ms).await
    }

    async fn begin_task(&self, task: &str) -> Result<i32, LogError> {
        self.call(|| format!("begin {task}"), self.inner.begin_task(task)).await
    }

    async fn join(self: Arc<Self>, topics: Vec<String>) -> Result<Box<dyn Membership>, LogError> {
        Ok(Box::new(SoleMember::join(self, topics).await?))
    }

    async fn commit_offsets(
        &self,
        group: &str,
        offsets: &[CommittedOffset],
        task: Option<(&str, i32)>,
    ) -> Result<(), LogError> {
        let what = || {
            let offsets: Vec<_> = offsets.iter().map(|o| format!("{}/{}@{}", o.topic, o.partition, o.offset)).collect();
            format!("commit {group} {} as {task:?}", offsets.join(" "))
        };
        self.call(what, self.inner.commit_offsets(group, offsets, task)).await
    }

    async fn committed(&self, group: &str) -> Result<Vec<CommittedOffset>, LogError> {
        self.pause().await;
        self.inner.committed(group).await
    }
}
