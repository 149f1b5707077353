//! Groups over a real broker whose disk is simulated and whose threads are stepped by hand: every test decides what happens when.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use uuid::Uuid;

use super::machine::{JoinRequest, Joined, Protocol, SyncRequest};
use super::*;
use crate::broker::{Broker, Stepper};
use crate::clock::ManualClock;
use crate::config::BrokerConfig;
use crate::fs::{Crash, SimFs};
use crate::topic_config::TopicConfig;

mod driving;
mod restarts;
mod storm;

const NOW: i64 = 1_700_000_000_000;
const TOPIC: &str = "logs";

/// A broker with its groups, on a disk that outlives it.
pub(super) struct Node {
    pub(super) fs: SimFs,
    pub(super) clock: Arc<ManualClock>,
    pub(super) settings: GroupSettings,
    pub(super) running: Option<Running>,
}

pub(super) struct Running {
    pub(super) groups: Arc<Groups>,
    pub(super) broker: Broker,
    stepper: Stepper,
}

/// Ids of members, never twice, also across restarts.
static IDS: AtomicU64 = AtomicU64::new(1);

impl Node {
    pub(super) fn new() -> Self {
        Self::with(GroupSettings::default())
    }

    pub(super) fn with(settings: GroupSettings) -> Self {
        let fs = SimFs::new();
        let mut node = Self { fs, clock: Arc::new(ManualClock::new(NOW)), settings, running: None };
        node.start();
        for name in [TOPIC, "metrics"] {
            let broker = &node.running.as_ref().unwrap().broker;
            now_or_never(broker.ensure_topic(name, TopicConfig::with_partitions(8))).unwrap().unwrap();
        }
        node
    }

    pub(super) fn start(&mut self) {
        let clock: Arc<dyn crate::Clock> = Arc::clone(&self.clock) as _;
        let (broker, stepper) = Broker::open_stepped(config(), Arc::new(self.fs.clone()), clock, Uuid::new_v4).unwrap();
        let new_id = || Uuid::from_u128(u128::from(IDS.fetch_add(1, Ordering::Relaxed)));
        let groups = Groups::open(&broker, self.settings.clone(), new_id);
        self.running = Some(Running { groups, broker, stepper });
    }

    /// The process dies, the disk fares as `crash` says, and another process begins.
    pub(super) fn restart(&mut self, crash: Crash) {
        self.running = None;
        self.fs.crash(crash);
        self.start();
    }

    pub(super) fn groups(&self) -> Arc<Groups> {
        Arc::clone(&self.running.as_ref().unwrap().groups)
    }

    /// What waits for the journal is written, synced and answered.
    pub(super) fn write(&mut self) {
        self.running.as_mut().unwrap().stepper.step_committer();
    }

    /// Lets time pass in steps of 100 ms, with everything that is due, and the journal keeping up.
    pub(super) fn pass(&mut self, ms: i64) {
        let mut left = ms;
        while left > 0 {
            let step = left.min(100);
            self.clock.advance_ms(step);
            left -= step;
            self.groups().tick();
            self.write();
        }
    }

    pub(super) fn topic_id(&self, topic: &str) -> Uuid {
        self.running.as_ref().unwrap().broker.topic_id_of(topic, 0).unwrap().1
    }

    /// Commits one offset; the answer comes once it is written.
    pub(super) fn commit(
        &self,
        group: &str,
        member_id: &str,
        generation: i32,
        partition: i32,
        offset: i64,
    ) -> Result<tokio::sync::oneshot::Receiver<Result<(), GroupError>>, GroupError> {
        let offset = OffsetToCommit {
            topic: TOPIC.into(),
            topic_id: self.topic_id(TOPIC),
            partition,
            offset,
            leader_epoch: 0,
            metadata: format!("generation {generation}"),
        };
        let request = CommitRequest {
            member_id: member_id.to_owned(),
            instance_id: None,
            generation,
            retention_ms: None,
            offsets: vec![offset],
        };
        self.groups().hand_over(group, request)
    }

    pub(super) fn committed(&self, group: &str, partition: i32) -> Option<i64> {
        self.groups().fetch(group, &Arc::from(TOPIC), partition).map(|offset| offset.offset)
    }
}

/// The outcome of a future that has nothing to wait for; `None` where it does.
pub(super) fn now_or_never<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}

fn config() -> BrokerConfig {
    BrokerConfig { segment_size_bytes: 4096, writer_threads: 1, ..BrokerConfig::new("/data") }
}

pub(super) fn join_request(member_id: &str, instance_id: Option<&str>) -> JoinRequest {
    JoinRequest {
        member_id: member_id.into(),
        instance_id: instance_id.map(Arc::from),
        client_id: "client".into(),
        client_host: "/10.0.0.1".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 30_000,
        protocol_type: "consumer".into(),
        protocols: vec![Protocol { name: "range".into(), metadata: Bytes::from_static(b"\0\0\0\0\0\x01\0\x04logs") }],
        reason: None,
        needs_member_id_first: true,
        can_skip_assignment: true,
    }
}

pub(super) fn sync_request(member_id: &str, generation: i32, assignments: &[(&str, &str)]) -> SyncRequest {
    let assignment = |(id, what): &(&str, &str)| (Arc::from(*id), Bytes::from((*what).to_owned()));
    SyncRequest {
        member_id: member_id.into(),
        instance_id: None,
        generation,
        protocol_type: None,
        protocol: None,
        assignments: assignments.iter().map(assignment).collect(),
    }
}

/// Joins a group alone and gets an assignment. Answers with id and generation.
pub(super) fn settle_alone(node: &mut Node, group: &str) -> (String, i32) {
    let groups = node.groups();
    let mut asked = groups.join(group, join_request("", None));
    let id = asked.try_recv().unwrap().unwrap_err().member_id;
    let mut joined = groups.join(group, join_request(&id, None));
    node.pass(3_100);
    let Joined { generation, .. } = joined.try_recv().unwrap().unwrap();
    let mut synced = groups.sync(group, sync_request(&id, generation, &[(&id, "everything")]));
    node.write();
    assert_eq!(synced.try_recv().unwrap().unwrap().assignment, "everything");
    (id.to_string(), generation)
}
