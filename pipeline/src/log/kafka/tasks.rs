//! Transactions of tasks: all outputs of a commit and the task's progress become visible together, or not at all.
//!
//! Each run of a task has a transactional producer and a thread of its own, because librdkafka's transaction calls block. The
//! transactional id is `<group>-<task>`, so starting a run ends every earlier one, wherever it is: its open transaction is aborted, and its next
//! call is answered with [`LogError::Fenced`].
//!
//! ```text
//! begin ─ init_transactions ─▶ Ready ── commit ──▶ begin, send all, send offsets, commit ──▶ Ready
//!                               ▲ ▲                    │ abortable             │ no answer     │ fatal
//!                               │ └── abort done ── Aborting                 InDoubt         Dead (Fenced)
//!                               └──── commit done, or it is known to be aborted ┘
//! ```
//!
//! In doubt, the commit's outcome is not known; only asking again can tell, so the next call first finishes what is open.

use std::collections::HashMap;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use highwater_broker::{Append, EFFECT_HEADER, Guard};
use parking_lot::Mutex;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError as Rdkafka, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use tokio::sync::oneshot;

use super::appends::{append_error, headers, is_too_large};
use super::cluster::{Cluster, TIMEOUT, reason_of};
use super::context::Context;
use super::error::{KafkaError, Kind, code_of, kind_of};
use super::offsets::{self, Offsets};
use super::watermarks::Watermarks;
use crate::log::{CommittedOffset, LogError, TASKS_GROUP, TaskCommit, TaskCommitted, TopicPartition};

/// How long one step of a transaction may block before the caller hears that it is still open.
const STEP: Duration = Duration::from_secs(10);

pub(super) struct Tasks {
    cluster: Arc<Cluster>,
    offsets: Arc<Offsets>,
    watermarks: Arc<Watermarks>,
    runs: Mutex<HashMap<Arc<str>, Run>>,
    /// The last epoch given to each task here, so that no two runs of this process are taken for each other.
    given: Mutex<HashMap<Arc<str>, i32>>,
}

/// A run of a task in this process.
#[derive(Clone)]
struct Run {
    epoch: i32,
    orders: mpsc::Sender<Order>,
}

/// What a task's thread is asked to do: one transaction.
struct Order {
    appends: Vec<Append>,
    group: String,
    offsets: Vec<CommittedOffset>,
    reply: oneshot::Sender<Result<(), LogError>>,
}

impl Tasks {
    pub(super) fn new(cluster: &Arc<Cluster>, offsets: &Arc<Offsets>, watermarks: &Arc<Watermarks>) -> Self {
        Self {
            cluster: Arc::clone(cluster),
            offsets: Arc::clone(offsets),
            watermarks: Arc::clone(watermarks),
            runs: Mutex::default(),
            given: Mutex::default(),
        }
    }

    /// Starts a run: every earlier one is fenced when this returns, and what it had open is decided. Its epoch is above the one that the
    /// task's committed offset carries, and above every one given out here. (A run of another process that committed nothing may have had the
    /// same number. It does no harm: what Kafka fences by is the producer's epoch, not this one.)
    pub(super) async fn begin(&self, task: &str) -> Result<i32, LogError> {
        let input = input_of(task)?;
        self.runs.lock().remove(task);
        let producer = self
            .cluster
            .create::<ThreadedProducer<Context>>(&self.cluster.config.task_producer(task), &format!("task {task}"))?;
        let doing = format!("the start of task {task}");
        let initialised = self.cluster.blocking(move || match producer.init_transactions(STEP) {
            Ok(()) => Ok(producer),
            Err(error) => Err(error),
        });
        let producer = self.cluster.outcome(&doing, initialised.await?)?;
        // Only now is the offset the last one an earlier run could commit.
        let committed = self.offsets.of(TASKS_GROUP, vec![(input.topic.to_string(), input.partition)]).await?;
        let before = committed.first().and_then(|(_, epoch)| *epoch).unwrap_or(0);
        let task: Arc<str> = task.into();
        let epoch = {
            let mut given = self.given.lock();
            let last = given.entry(Arc::clone(&task)).or_insert(0);
            *last = before.max(*last).saturating_add(1);
            *last
        };
        let (orders, received) = mpsc::channel();
        let transactions = Transactions {
            task: Arc::clone(&task),
            epoch,
            cluster: Arc::clone(&self.cluster),
            offsets: Arc::clone(&self.offsets),
            producer,
            state: State::Ready,
        };
        std::thread::Builder::new()
            .name(format!("kafka-{task}"))
            .spawn(move || transactions.serve(&received))
            .map_err(|error| self.cluster.unavailable(&doing, format!("no thread: {error}")))?;
        self.runs.lock().insert(task, Run { epoch, orders });
        Ok(epoch)
    }

    pub(super) async fn commit(&self, commit: TaskCommit) -> Result<TaskCommitted, LogError> {
        if commit.appends.is_empty() && !commit.progress_due {
            return Ok(TaskCommitted { suppressed: 0, progressed: false });
        }
        let TaskCommit { task, epoch, appends, progress, .. } = commit;
        check_guards(&task, epoch, &appends)?;
        let written: Vec<_> = appends.iter().map(|a| (Arc::clone(&a.topic), a.partition)).collect();
        let result = self.order(&task, epoch, appends, TASKS_GROUP.to_owned(), vec![progress]).await;
        for (topic, partition) in written {
            self.watermarks.moved(&topic, partition);
        }
        result.map(|()| TaskCommitted { suppressed: 0, progressed: true })
    }

    /// Commits offsets as this run of a task: refused once a later run has begun.
    pub(super) async fn commit_offsets(
        &self,
        group: &str,
        offsets: &[CommittedOffset],
        task: &str,
        epoch: i32,
    ) -> Result<(), LogError> {
        self.order(task, epoch, Vec::new(), group.to_owned(), offsets.to_vec()).await
    }

    async fn order(
        &self,
        task: &str,
        epoch: i32,
        appends: Vec<Append>,
        group: String,
        offsets: Vec<CommittedOffset>,
    ) -> Result<(), LogError> {
        let run = self.runs.lock().get(task).cloned();
        let run = run.ok_or_else(|| fenced(task, epoch, 0))?;
        if run.epoch != epoch {
            return Err(fenced(task, epoch, run.epoch));
        }
        let (reply, answer) = oneshot::channel();
        // A thread that ended was that of an earlier run.
        run.orders
            .send(Order { appends, group, offsets, reply })
            .map_err(|_| fenced(task, epoch, epoch.saturating_add(1)))?;
        answer.await.map_err(|_| KafkaError::Closed)?
    }

    /// The runs of tasks whose input went to somebody else: their producers are let go.
    pub(super) fn end(&self, inputs: &[TopicPartition]) {
        let mut runs = self.runs.lock();
        for input in inputs {
            runs.remove(&*format!("{}/{}", input.topic, input.partition));
        }
    }
}

/// The input of a task is in its name.
fn input_of(task: &str) -> Result<TopicPartition, LogError> {
    let parsed = task.rsplit_once('/').and_then(|(topic, partition)| {
        Some(TopicPartition { topic: topic.into(), partition: partition.parse().ok()? })
    });
    let reason =
        || format!("task {task} is not named <topic>/<partition> after its input, which is where its epoch is kept");
    Ok(parsed.ok_or_else(|| KafkaError::InvalidRequest { topic: task.to_owned(), partition: 0, reason: reason() })?)
}

fn fenced(task: &str, epoch: i32, current: i32) -> LogError {
    LogError::Fenced { task: task.to_owned(), epoch, current }
}

fn check_guards(task: &str, epoch: i32, appends: &[Append]) -> Result<(), LogError> {
    let wrong = appends.iter().find(|append| match &append.guard {
        Guard::Effects { task: of, epoch: at, marks } => {
            **of != *task || *at != epoch || marks.len() != append.records.len()
        }
        Guard::None | Guard::Idempotency { .. } => true,
    });
    match wrong {
        None => Ok(()),
        Some(append) => Err(KafkaError::InvalidRequest {
            topic: append.topic.to_string(),
            partition: append.partition,
            reason: format!("a commit of task {task} epoch {epoch} holds effects of that run, one mark per record"),
        }
        .into()),
    }
}

/// The producer of one run, on its thread.
struct Transactions {
    task: Arc<str>,
    epoch: i32,
    cluster: Arc<Cluster>,
    offsets: Arc<Offsets>,
    producer: ThreadedProducer<Context>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nothing is open.
    Ready,
    /// A commit got no answer: this progress of this group may be in the log or not.
    InDoubt(String, Vec<CommittedOffset>),
    /// An abort got no answer.
    Aborting,
    /// A later run has begun, or librdkafka gave up.
    Dead,
}

impl Transactions {
    fn serve(mut self, orders: &mpsc::Receiver<Order>) {
        while let Ok(Order { appends, group, offsets, reply }) = orders.recv() {
            let result = self.perform(&appends, &group, &offsets);
            if let Err(error) = &result {
                tracing::debug!(task = &*self.task, %error, state = ?self.state, "transaction not committed");
            }
            // Who asked may be gone; what is done is done.
            reply.send(result).ok();
        }
    }

    fn perform(&mut self, appends: &[Append], group: &str, offsets: &[CommittedOffset]) -> Result<(), LogError> {
        match std::mem::replace(&mut self.state, State::Ready) {
            State::Ready => {}
            State::Aborting => self.abort("its outcome was not heard")?,
            State::Dead => {
                self.state = State::Dead;
                return Err(self.fenced());
            }
            State::InDoubt(open_group, open) => {
                self.finish(&open_group, &open)?;
                // The same order again: it is done.
                if open_group == group && open == offsets {
                    return Ok(());
                }
            }
        }
        let metadata = self.offsets.group_metadata(group)?;
        let epoch = (group == TASKS_GROUP).then_some(self.epoch);
        let list = offsets::list(offsets, epoch).map_err(|error| self.cluster.failed("a commit", &error))?;
        self.producer.context().take_undelivered();
        self.step("the begin of a transaction", |producer| producer.begin_transaction())?;
        self.send(appends)?;
        self.send_offsets(&list, &metadata)?;
        self.finish(group, offsets)
    }

    fn send(&mut self, appends: &[Append]) -> Result<(), LogError> {
        for append in appends {
            let Guard::Effects { marks, .. } = &append.guard else { continue };
            for (record, mark) in append.records.iter().zip(marks) {
                let effect = format!("{}\0{}\0{}\0{}", self.task, self.epoch, mark.position, mark.index);
                let mut message: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&append.topic).partition(append.partition);
                message.payload = record.value.as_deref();
                message.key = record.key.as_deref();
                message.timestamp = record.timestamp_ms;
                message.headers = headers(record, Some((EFFECT_HEADER, effect.as_bytes())));
                loop {
                    match self.producer.send(message) {
                        Ok(()) => break,
                        Err((error, back)) if error.rdkafka_error_code() == Some(Code::QueueFull) => {
                            // The producer's own thread makes room; the transaction's timeout bounds this.
                            std::thread::sleep(Duration::from_millis(5));
                            message = back;
                        }
                        Err((error, _)) => {
                            let refused = append_error(&self.cluster, append, &error);
                            self.abort(&reason_of(&error))?;
                            return Err(if refused.is_retryable() { self.aborted(&error) } else { refused });
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn send_offsets(&mut self, list: &TopicPartitionList, metadata: &ConsumerGroupMetadata) -> Result<(), LogError> {
        self.step("the progress of a task", |producer| producer.send_offsets_to_transaction(list, metadata, STEP))
    }

    /// Commits what is open, whatever it is.
    fn finish(&mut self, group: &str, offsets: &[CommittedOffset]) -> Result<(), LogError> {
        match self.producer.commit_transaction(STEP) {
            Ok(()) => {
                self.cluster.trouble.clear();
                self.state = State::Ready;
                Ok(())
            }
            Err(error) => {
                // Messages still on their way: nothing has been asked of the coordinator, so it can be taken back.
                let is_open = !matches!(error, Rdkafka::Flush(_));
                if let Rdkafka::Transaction(inner) = &error
                    && is_open
                    && inner.is_retriable()
                    && !inner.txn_requires_abort()
                    && !inner.is_fatal()
                {
                    self.state = State::InDoubt(group.to_owned(), offsets.to_vec());
                    let doing = format!("the commit of task {}", self.task);
                    return Err(self.cluster.failed(&doing, &error));
                }
                Err(self.undo("the commit of a transaction", &error))
            }
        }
    }

    fn step(
        &mut self,
        doing: &str,
        call: impl FnOnce(&ThreadedProducer<Context>) -> Result<(), Rdkafka>,
    ) -> Result<(), LogError> {
        call(&self.producer).map_err(|error| self.undo(doing, &error))
    }

    /// After a step failed: the transaction is aborted if that is possible. Answers with what the caller hears.
    fn undo(&mut self, doing: &str, error: &Rdkafka) -> LogError {
        let undelivered = self.producer.context().take_undelivered();
        if self.is_fatal(error) {
            return self.died(error);
        }
        let reason = match undelivered {
            Some(code) => format!("{} ({code})", reason_of(error)),
            None => reason_of(error),
        };
        if let Err(error) = self.abort(&reason) {
            return error;
        }
        // Why a message was not delivered says more than that the transaction has to be aborted.
        let cause = undelivered.map(Rdkafka::MessageProduction);
        let cause = cause.as_ref().unwrap_or(error);
        if is_too_large(cause) {
            let limit_bytes = self.cluster.config.max_record_size_bytes;
            let topic = format!("an output of task {}", self.task);
            return KafkaError::RecordTooLarge { topic, partition: -1, limit_bytes }.into();
        }
        match code_of(cause).map(kind_of) {
            Some(Kind::NotAllowed(_) | Kind::Credentials) => {
                self.cluster.failed(&format!("{doing} of task {}", self.task), cause)
            }
            _ => KafkaError::Aborted { task: self.task.to_string(), reason }.into(),
        }
    }

    fn abort(&mut self, reason: &str) -> Result<(), LogError> {
        match self.producer.abort_transaction(TIMEOUT) {
            Ok(()) => {
                self.state = State::Ready;
                metrics::counter!("highwater_kafka_transactions_aborted_total").increment(1);
                tracing::debug!(task = &*self.task, reason, "transaction aborted");
                Ok(())
            }
            Err(error) if self.is_fatal(&error) => Err(self.died(&error)),
            // Nothing was open.
            Err(Rdkafka::Transaction(error)) if error.code() == Code::State => {
                self.state = State::Ready;
                Ok(())
            }
            Err(error) => {
                self.state = State::Aborting;
                Err(self.cluster.failed(&format!("the abort of a transaction of task {}", self.task), &error))
            }
        }
    }

    fn is_fatal(&self, error: &Rdkafka) -> bool {
        let fatal = matches!(error, Rdkafka::Transaction(error) if error.is_fatal());
        fatal || self.producer.client().fatal_error().is_some()
    }

    /// The producer can do nothing any more. Mostly that is a later run of the task; whatever it is, this run is over, and another one starts
    /// from what is committed.
    fn died(&mut self, error: &Rdkafka) -> LogError {
        let said = self.producer.client().fatal_error().map(|(code, text)| format!("{code}: {text}"));
        let reason = said.unwrap_or_else(|| reason_of(error));
        tracing::warn!(task = &*self.task, epoch = self.epoch, reason, "this run of the task is over");
        self.state = State::Dead;
        self.fenced()
    }

    fn fenced(&self) -> LogError {
        fenced(&self.task, self.epoch, self.epoch.saturating_add(1))
    }

    fn aborted(&self, error: &Rdkafka) -> LogError {
        KafkaError::Aborted { task: self.task.to_string(), reason: reason_of(error) }.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_named_after_its_input() {
        let at = input_of("rollup.requests_1m/3").unwrap();
        assert_eq!((&*at.topic, at.partition), ("rollup.requests_1m", 3));
        for bad in ["logs", "logs/", "logs/x"] {
            assert!(input_of(bad).unwrap_err().to_string().contains(bad), "{bad}");
        }
    }
}
