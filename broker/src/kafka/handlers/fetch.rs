//! Fetch (1), versions 4-12: record batches out of partitions.
//!
//! - Waits until `min_bytes` are there over all partitions, something is wrong with one, or `max_wait_ms` are over.
//! - `max_bytes` of the request and of each partition hold, but the first batch of the first partition that has any is sent whatever its
//!   size, so that no batch is too large to be read. The door's own limit on answers holds likewise.
//! - Batches are sent as they are on disk, from the one that holds the offset asked for: the client skips what it has.
//! - Under `read_committed` the answer ends at the last stable offset, and lists what was aborted in it.
//! - Fetch sessions are declined: the session id is always 0, so that clients name their partitions every time, and a request that
//!   builds on a session is FETCH_SESSION_ID_NOT_FOUND.
//! - Followers are refused: there is one node.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::select_all;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{FetchRequest, FetchResponse, ProducerId, TopicName};
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::kafka::Context;
use crate::kafka::apis::Reply;
use crate::kafka::errors;
use crate::kafka::frame::{FrameError, RequestHead, encode_fetched};
use crate::kafka::readers::{check_leader_epoch, end_for, isolation};
use crate::raw::{FetchedBatches, Isolation, PartitionEnds};

pub(in crate::kafka) const VERSIONS: RangeInclusive<i16> = 4..=12;

/// Epochs of a request that wants a new fetch session, or none.
const FULL: [i32; 2] = [0, -1];
/// One answer takes at most this part of the room for all answers.
const ROOM_SHARE: usize = 8;
/// After a look that found something, but too little, the next one waits so long: small appends do not cause a look each.
const PAUSE: Duration = Duration::from_millis(5);

/// An answer, and what it takes of the room for answers.
pub(in crate::kafka) struct Outcome {
    response: FetchResponse,
    room: Option<OwnedSemaphorePermit>,
}

/// Makes the reply of an outcome.
pub(in crate::kafka) fn reply(head: &RequestHead, outcome: Outcome) -> Result<Reply, FrameError> {
    let pieces = encode_fetched(head.correlation, &outcome.response, head.version);
    Ok(Reply::Send { pieces, room: outcome.room })
}

pub(in crate::kafka) async fn handle(cx: &Context, request: FetchRequest, _: i16) -> Outcome {
    if !FULL.contains(&request.session_epoch) {
        let response = FetchResponse::default().with_error_code(ResponseError::FetchSessionIdNotFound.code());
        return Outcome { response, room: None };
    }
    let max_wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let min_bytes = usize::try_from(request.min_bytes).unwrap_or(0);
    let mut fetch = Fetch::new(cx, request);
    fetch.look(cx).await;
    if !max_wait.is_zero() && !fetch.is_done(min_bytes) {
        let mut stopped = cx.stopped.clone();
        let wait = async {
            while !fetch.is_done(min_bytes) {
                fetch.change().await;
                fetch.look(cx).await;
            }
        };
        // Whatever ends the waiting, the answer is what was found so far.
        tokio::select! {
            () = wait => {}
            () = tokio::time::sleep(max_wait) => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
    }
    fetch.answer()
}

/// A fetch under way.
struct Fetch {
    isolation: Isolation,
    max_bytes: usize,
    /// Topics with how many of the partitions are theirs, in order.
    topics: Vec<(TopicName, usize)>,
    partitions: Vec<Wanted>,
    room: Option<OwnedSemaphorePermit>,
}

/// A partition that is fetched from.
struct Wanted {
    topic: TopicName,
    asked: FetchPartition,
    /// Tells when there is more; `None` where there is no such partition.
    ends: Option<watch::Receiver<PartitionEnds>>,
    /// True where there may be more than was found.
    is_stale: bool,
    found: Result<FetchedBatches, ResponseError>,
}

impl Fetch {
    fn new(cx: &Context, request: FetchRequest) -> Self {
        let is_follower = request.replica_id.0 >= 0;
        let topics = request.topics.iter().map(|topic| (topic.topic.clone(), topic.partitions.len())).collect();
        let asked = request.topics.into_iter().flat_map(|topic| {
            let name = topic.topic;
            topic.partitions.into_iter().map(move |asked| (name.clone(), asked))
        });
        let partitions = asked.map(|(topic, asked)| match is_follower {
            true => Wanted::refused(topic, asked, ResponseError::TopicAuthorizationFailed),
            false if !cx.may_read(&topic) => Wanted::refused(topic, asked, ResponseError::TopicAuthorizationFailed),
            false => Wanted::new(cx, topic, asked),
        });
        let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0).min(cx.door.max_answer_bytes / ROOM_SHARE);
        Self {
            isolation: isolation(request.isolation_level),
            max_bytes,
            topics,
            partitions: partitions.collect(),
            room: None,
        }
    }

    /// True where there is no use in waiting.
    fn is_done(&self, min_bytes: usize) -> bool {
        let has_error = self.partitions.iter().any(|wanted| wanted.found.is_err());
        has_error || self.partitions.is_empty() || self.size_bytes() >= min_bytes
    }

    fn size_bytes(&self) -> usize {
        self.partitions.iter().map(Wanted::size_bytes).sum()
    }

    /// Reads what there is, in the order of the request.
    async fn look(&mut self, cx: &Context) {
        self.make_room(cx).await;
        let mut taken = 0;
        for wanted in &mut self.partitions {
            let limit = wanted.limit().min(self.max_bytes.saturating_sub(taken));
            if wanted.is_stale && (limit > 0 || taken == 0) {
                wanted.read(cx, limit, self.isolation).await;
            }
            // At least one batch was read where there is one: the first to be sent may be above its limit, no other.
            if wanted.size_bytes() > limit && taken > 0 {
                wanted.leave_out();
            }
            taken += wanted.size_bytes();
        }
        if let Some(room) = &mut self.room
            && let Some(excess) = room.num_permits().checked_sub(taken)
        {
            drop(room.split(excess));
        }
    }

    /// Takes room for what may be found. Waits for it; with nothing in hand at the first look, and later no longer than the client.
    async fn make_room(&mut self, cx: &Context) {
        let may_come: usize = self.partitions.iter_mut().map(|wanted| wanted.may_come(self.isolation)).sum();
        let held = self.room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = may_come.min(self.max_bytes).saturating_sub(held);
        if missing == 0 {
            return;
        }
        let permits = u32::try_from(missing).unwrap_or(u32::MAX);
        // The room is never closed.
        let Ok(more) = Arc::clone(&cx.answer_room).acquire_many_owned(permits).await else { return };
        match &mut self.room {
            Some(room) => room.merge(more),
            None => self.room = Some(more),
        }
    }

    /// Waits until there may be more in some partition.
    async fn change(&mut self) {
        if self.size_bytes() > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        let changes = self.partitions.iter_mut().enumerate().filter_map(|(index, wanted)| {
            let ends = wanted.ends.as_mut()?;
            Some(async move { (index, ends.changed().await.is_ok()) }.boxed())
        });
        let changes: Vec<_> = changes.collect();
        if changes.is_empty() {
            return std::future::pending().await;
        }
        let ((index, is_open), ..) = select_all(changes).await;
        self.partitions[index].is_stale = true;
        if !is_open {
            // The topic is gone, or the broker is: the next look says so, and there is nothing more to wait for.
            self.partitions[index].ends = None;
        }
        for wanted in &mut self.partitions {
            wanted.is_stale |= wanted.ends.as_ref().is_some_and(|ends| ends.has_changed().unwrap_or(true));
        }
    }

    fn answer(self) -> Outcome {
        let isolation = self.isolation;
        let mut partitions = self.partitions.into_iter().map(|wanted| wanted.answer(isolation));
        let topics = self.topics.into_iter().map(|(name, count)| {
            FetchableTopicResponse::default()
                .with_topic(name)
                .with_partitions(partitions.by_ref().take(count).collect())
        });
        Outcome { response: FetchResponse::default().with_responses(topics.collect()), room: self.room }
    }
}

impl Wanted {
    fn new(cx: &Context, topic: TopicName, asked: FetchPartition) -> Self {
        let watched = cx.broker.watch(&topic, asked.partition).map_err(|error| errors::response_error(&error));
        let watched = watched.and_then(|ends| check_leader_epoch(asked.current_leader_epoch).map(|()| ends));
        match watched {
            Err(error) => Self::refused(topic, asked, error),
            Ok(ends) => {
                let found = Ok(nothing(*ends.borrow()));
                Self { topic, asked, ends: Some(ends), is_stale: true, found }
            }
        }
    }

    fn refused(topic: TopicName, asked: FetchPartition, error: ResponseError) -> Self {
        Self { topic, asked, ends: None, is_stale: false, found: Err(error) }
    }

    /// What the client takes of this partition.
    fn limit(&self) -> usize {
        usize::try_from(self.asked.partition_max_bytes).unwrap_or(0)
    }

    fn size_bytes(&self) -> usize {
        self.found.as_ref().map_or(0, |found| found.batches.len())
    }

    /// How much the next look may find. What comes after this is a change.
    fn may_come(&mut self, isolation: Isolation) -> usize {
        let size_bytes = self.size_bytes();
        let Some(ends) = self.ends.as_mut().filter(|_| self.is_stale) else { return size_bytes };
        let end = end_for(&ends.borrow_and_update(), isolation);
        if end > self.asked.fetch_offset { self.limit() } else { size_bytes }
    }

    async fn read(&mut self, cx: &Context, limit: usize, isolation: Isolation) {
        let FetchPartition { partition, fetch_offset, .. } = self.asked;
        let found = cx.broker.fetch(&self.topic, partition, fetch_offset, limit, isolation).await;
        self.found = found.map_err(|error| errors::response_error(&error));
        self.is_stale = false;
    }

    /// Says where the partition ends, but sends nothing of it.
    fn leave_out(&mut self) {
        if let Ok(found) = &mut self.found {
            *found = nothing(found.ends);
            self.is_stale = true;
        }
    }

    fn answer(self, isolation: Isolation) -> PartitionData {
        let answer = PartitionData::default().with_partition_index(self.asked.partition);
        let FetchedBatches { batches, ends, aborted } = match self.found {
            Ok(found) => found,
            Err(error) => {
                return answer.with_error_code(error.code()).with_high_watermark(-1).with_records(Some(Bytes::new()));
            }
        };
        let aborted = aborted.into_iter().map(|aborted| {
            AbortedTransaction::default()
                .with_producer_id(ProducerId(aborted.producer_id))
                .with_first_offset(aborted.first_offset)
        });
        answer
            .with_high_watermark(ends.high_watermark)
            .with_last_stable_offset(ends.last_stable_offset)
            .with_log_start_offset(ends.log_start)
            .with_aborted_transactions((isolation == Isolation::ReadCommitted).then(|| aborted.collect()))
            .with_records(Some(batches))
    }
}

fn nothing(ends: PartitionEnds) -> FetchedBatches {
    FetchedBatches { batches: Bytes::new(), ends, aborted: Vec::new() }
}
