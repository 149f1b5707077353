//! What tests of transactions share: a clock that is moved by hand and wakes who sleeps, and batches as clients make them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Producer;
use crate::Clock;
use crate::broker::Broker;

pub(crate) const NOW: i64 = 1_700_000_000_000;

/// Time passes when it is told to.
#[derive(Default)]
pub(crate) struct TestClock {
    state: Mutex<Times>,
}

#[derive(Default)]
struct Times {
    elapsed_ms: i64,
    /// What the wall clock is off by.
    offset_ms: i64,
    sleepers: BTreeMap<(i64, u64), oneshot::Sender<()>>,
    next: u64,
}

impl TestClock {
    pub(crate) fn advance_ms(&self, ms: i64) {
        let mut state = self.state.lock();
        state.elapsed_ms += ms;
        let later = (state.elapsed_ms + 1, 0);
        let asleep = state.sleepers.split_off(&later);
        for (_, sleeper) in std::mem::replace(&mut state.sleepers, asleep) {
            sleeper.send(()).ok();
        }
    }

    /// Sets the wall clock forward or back.
    pub(crate) fn jump_ms(&self, ms: i64) {
        self.state.lock().offset_ms += ms;
    }
}

impl Clock for TestClock {
    fn now_ms(&self) -> i64 {
        let state = self.state.lock();
        NOW + state.elapsed_ms + state.offset_ms
    }

    fn elapsed_ms(&self) -> i64 {
        self.state.lock().elapsed_ms
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut state = self.state.lock();
        let (sender, receiver) = oneshot::channel();
        let key = (state.elapsed_ms + duration.as_millis() as i64, state.next);
        state.next += 1;
        state.sleepers.insert(key, sender);
        Box::pin(async move { drop(receiver.await) })
    }
}

/// A transactional batch of these values.
pub(crate) fn batch(producer: Producer, sequence: i32, values: &[String]) -> Bytes {
    let record = |(i, value): (usize, &String)| Record {
        transactional: true,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 0,
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        timestamp_type: TimestampType::Creation,
        offset: i as i64,
        sequence: sequence + i as i32,
        timestamp: NOW,
        key: None,
        value: Some(Bytes::from(value.clone())),
        headers: IndexMap::new(),
    };
    let records: Vec<Record> = values.iter().enumerate().map(record).collect();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    let mut buffer = BytesMut::new();
    RecordBatchEncoder::encode(&mut buffer, &records, &options).unwrap();
    buffer.freeze()
}

/// What a reader of committed records finds in a partition.
pub(crate) async fn committed_values(broker: &Broker, topic: &str, partition: i32) -> Vec<String> {
    let mut at = broker.ends(topic, partition).unwrap().log_start;
    let mut values = Vec::new();
    loop {
        let fetched = broker.read(topic, partition, at, 1 << 20, Duration::ZERO).await.unwrap();
        values.extend(fetched.records.iter().map(|r| String::from_utf8(r.value.as_ref().unwrap().to_vec()).unwrap()));
        assert!(fetched.gaps.is_empty(), "{:?}", fetched.gaps);
        if fetched.next_offset == at {
            return values;
        }
        at = fetched.next_offset;
    }
}

pub(crate) fn name(text: &str) -> Arc<str> {
    Arc::from(text)
}
