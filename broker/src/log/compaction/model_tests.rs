//! A model of a compacted partition: plain records, transactions that commit and abort, tombstones, deaths in the middle of a pass. Whatever
//! happens, offsets never change, nothing that was aborted is seen, and a reader from the start ends with the newest value of
//! each key. Readers by the rules of a Kafka client see the same as our own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use kafka_protocol::records::{self, RecordBatchEncoder, RecordEncodeOptions};
use proptest::prelude::*;

use super::super::tests::{NOW, new_fs, settings, try_open};
use super::super::*;
use super::*;
use crate::batch::{BatchHeader, CheckedBatch, decode_marker, decode_records};
use crate::config::TimestampType;
use crate::fs::{Crash, SimFs};
use crate::raw::{Isolation, TransactionMarker};

const DELETE_RETENTION_MS: i64 = 1000;

#[derive(Debug, Clone)]
enum Op {
    /// A batch of so many records with these keys; the value is null where the flag says.
    Put {
        producer: Option<i64>,
        keys: Vec<(u8, bool)>,
    },
    /// Ends the transaction of a producer, if one is open.
    End {
        producer: i64,
        commit: bool,
    },
    Roll,
    /// Compacts, so much later.
    Compact {
        later_ms: i64,
    },
    /// Begins to compact and dies after so many changes to the disk.
    Die {
        changes: u64,
        crash: Crash,
    },
    Restart(Crash),
}

fn crash() -> impl Strategy<Value = Crash> {
    prop_oneof![Just(Crash::Kill), Just(Crash::LoseUnsynced), any::<u64>().prop_map(Crash::Tear)]
}

fn op() -> impl Strategy<Value = Op> {
    let keys = || proptest::collection::vec((0u8..6, proptest::bool::weighted(0.2)), 1..4);
    prop_oneof![
        5 => keys().prop_map(|keys| Op::Put { producer: None, keys }),
        5 => (1i64..4, keys()).prop_map(|(id, keys)| Op::Put { producer: Some(id), keys }),
        4 => (1i64..4, any::<bool>()).prop_map(|(producer, commit)| Op::End { producer, commit }),
        4 => Just(Op::Roll),
        3 => (0i64..700).prop_map(|later_ms| Op::Compact { later_ms }),
        1 => (0u64..60, crash()).prop_map(|(changes, crash)| Op::Die { changes, crash }),
        1 => crash().prop_map(Op::Restart),
    ]
}

/// Every transaction is open.
struct AllOpen;

impl OngoingTransactions for AllOpen {
    fn is_open(&self, _: i64, _: i16, _: &str, _: i32) -> bool {
        true
    }

    fn current_epoch(&self, _: i64) -> Option<i16> {
        None
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Written {
    offset: i64,
    key: String,
    value: Option<String>,
}

struct Model {
    fs: SimFs,
    log: PartitionLog,
    now_ms: i64,
    /// Records that were committed or need no commit, by offset.
    committed: BTreeMap<i64, Written>,
    /// Records of open transactions.
    open: BTreeMap<i64, Vec<Written>>,
    /// Offset of the marker of a record's transaction.
    markers: BTreeMap<i64, i64>,
    sequences: BTreeMap<i64, i32>,
    written: usize,
}

fn small() -> LogSettings {
    LogSettings {
        segment_size_bytes: 4 << 10,
        segment_ms: Some(1),
        timestamp_type: TimestampType::CreateTime,
        compaction: Some(CompactionSettings {
            delete_retention_ms: DELETE_RETENTION_MS,
            min_dirty_ratio_ppm: 0,
            min_lag_ms: 0,
            max_lag_ms: None,
            max_keys: 4,
        }),
        ..settings()
    }
}

impl Model {
    fn new() -> Self {
        let fs = new_fs();
        let log = try_open(&fs, small()).unwrap().0;
        let (committed, open, markers, sequences) = Default::default();
        Self { fs, log, now_ms: NOW, committed, open, markers, sequences, written: 0 }
    }

    fn put(&mut self, producer: Option<i64>, keys: &[(u8, bool)]) {
        let sequence = producer.map(|id| *self.sequences.entry(id).or_default());
        let mut batch = Vec::new();
        let mut written = Vec::new();
        for (i, (key, is_tombstone)) in keys.iter().enumerate() {
            self.written += 1;
            let key = format!("key{key}");
            let value = (!is_tombstone).then(|| format!("value {}", self.written));
            let bytes = |text: &String| Bytes::from(text.clone());
            batch.push(records::Record {
                transactional: producer.is_some(),
                control: false,
                delete_horizon: false,
                partition_leader_epoch: -1,
                producer_id: producer.unwrap_or(-1),
                producer_epoch: if producer.is_some() { 0 } else { -1 },
                timestamp_type: records::TimestampType::Creation,
                offset: i as i64,
                sequence: sequence.unwrap_or(-1) + i as i32,
                timestamp: NOW + i as i64,
                key: Some(bytes(&key)),
                value: value.as_ref().map(bytes),
                headers: Default::default(),
            });
            written.push(Written { offset: 0, key, value });
        }
        let mut bytes = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: records::Compression::None };
        RecordBatchEncoder::encode(&mut bytes, &batch, &options).unwrap();
        let checked = CheckedBatch::check(bytes.freeze(), &small().batch_rules(self.now_ms)).unwrap();
        let produced = self.log.produce(&checked, self.now_ms, &AllOpen).unwrap();
        self.log.sync().unwrap();
        for (i, record) in written.iter_mut().enumerate() {
            record.offset = produced.base_offset + i as i64;
        }
        match producer {
            Some(id) => {
                *self.sequences.entry(id).or_default() += keys.len() as i32;
                self.open.entry(id).or_default().extend(written);
            }
            None => self.committed.extend(written.into_iter().map(|record| (record.offset, record))),
        }
    }

    fn end(&mut self, producer_id: i64, commit: bool) {
        let Some(records) = self.open.remove(&producer_id) else { return };
        let marker = TransactionMarker { producer_id, producer_epoch: 0, commit, coordinator_epoch: 0 };
        let marker = self.log.end_transaction(&marker, self.now_ms).unwrap();
        self.log.sync().unwrap();
        self.markers.extend(records.iter().map(|record| (record.offset, marker)));
        if commit {
            self.committed.extend(records.into_iter().map(|record| (record.offset, record)));
        }
    }

    fn roll(&mut self) {
        self.now_ms += 1;
        self.log.roll_if_due(self.now_ms).unwrap();
    }

    fn compact(&mut self) -> Result<(), BrokerError> {
        let mut resume = false;
        while let Some(pass) = self.log.begin_compaction(None, resume, self.now_ms)? {
            let done = match pass.run(&|| false, |new| self.log.replace_segments(new)) {
                Ok(done) => done,
                Err(Interrupted::Failed(error)) => return Err(error),
                Err(Interrupted::Damaged(_)) => panic!("nothing is damaged"),
            };
            self.log.finish_compaction(&done)?;
            resume = done.until < done.planned_until;
            if !resume {
                break;
            }
        }
        Ok(())
    }

    fn restart(&mut self, crash: Crash) {
        let next_offset = self.log.next_offset();
        self.fs.crash(crash);
        let (log, report) = try_open(&self.fs, small()).unwrap();
        assert_eq!((report.damaged_ranges, report.guard_state_incomplete), (0, false));
        assert_eq!(log.next_offset(), next_offset, "everything was synced");
        self.log = log;
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Put { producer, keys } => self.put(*producer, keys),
            Op::End { producer, commit } => self.end(*producer, *commit),
            Op::Roll => self.roll(),
            Op::Compact { later_ms } => {
                self.now_ms += later_ms;
                self.compact().unwrap();
            }
            Op::Die { changes, crash } => {
                self.fs.die_after(*changes);
                // It may have come to its end before.
                drop(self.compact());
                self.restart(*crash);
            }
            Op::Restart(crash) => self.restart(*crash),
        }
        self.check();
    }

    /// What readers of committed records see.
    fn seen(&self) -> Vec<Written> {
        let view = self.log.view();
        let end = view.ends().last_stable_offset;
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let (mut seen, mut at) = (Vec::new(), 0);
        while at < end {
            let fetched = view.read(at, 200).unwrap();
            assert_eq!(fetched.gaps, vec![], "a compacted hole is no gap");
            assert!(fetched.next_offset > at, "a read makes progress");
            at = fetched.next_offset;
            seen.extend(fetched.records.iter().map(|r| Written {
                offset: r.offset,
                key: text(r.key.as_ref().unwrap()),
                value: r.value.as_ref().map(text),
            }));
        }
        assert_eq!(at, end);
        seen
    }

    /// The same by the rules of a Kafka client: from the batches and the list of aborted transactions. Also answers with the markers met.
    fn seen_by_client(&self) -> (Vec<Written>, Vec<i64>) {
        let view = self.log.view();
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let (mut seen, mut at, mut markers) = (Vec::new(), 0, Vec::new());
        loop {
            let fetched = view.fetch(at, 400, Isolation::ReadCommitted).unwrap();
            if fetched.batches.is_empty() {
                return (seen, markers);
            }
            let mut upcoming = fetched.aborted.clone();
            let mut aborted = BTreeSet::new();
            let mut rest = fetched.batches.clone();
            while !rest.is_empty() {
                let header = BatchHeader::parse(&rest).unwrap();
                header.check_crc(&rest).unwrap();
                let batch = rest.split_to(header.size_bytes);
                assert!(header.base_offset <= at || header.base_offset == at, "batches follow each other without gaps");
                while upcoming.first().is_some_and(|a| a.first_offset <= header.last_offset()) {
                    aborted.insert(upcoming.remove(0).producer_id);
                }
                if header.is_control() {
                    markers.push(header.base_offset);
                    if !decode_marker(&header, &batch).unwrap().commit {
                        aborted.remove(&header.producer_id);
                    }
                } else if !header.is_transactional() || !aborted.contains(&header.producer_id) {
                    let mut records = Vec::new();
                    decode_records(&header, &batch, at, 1 << 20, &mut records).unwrap();
                    seen.extend(records.iter().map(|r| Written {
                        offset: r.offset,
                        key: text(r.key.as_ref().unwrap()),
                        value: r.value.as_ref().map(text),
                    }));
                }
                at = header.next_offset();
            }
        }
    }

    fn check(&self) {
        let seen = self.seen();
        assert_eq!(seen, self.seen_by_client().0, "both kinds of reader agree");
        assert!(seen.is_sorted_by(|a, b| a.offset < b.offset));
        for record in &seen {
            assert_eq!(self.committed.get(&record.offset), Some(record), "as it was written, where it was written");
        }
        let end = self.log.view().ends().last_stable_offset;
        let expected = table(self.committed.range(..end).map(|(_, record)| record));
        assert_eq!(table(&seen), expected);
    }

    /// Ends what is open, and compacts until there is nothing left to do.
    fn finish(&mut self) {
        for producer in 1..4 {
            self.end(producer, producer % 2 == 0);
        }
        for _ in 0..4 {
            self.put(None, &[(9, false)]);
            self.roll();
            self.now_ms += DELETE_RETENTION_MS;
            self.compact().unwrap();
            self.check();
        }
        let (seen, markers) = self.seen_by_client();
        let expected: BTreeSet<_> = seen.iter().filter_map(|record| self.markers.get(&record.offset)).collect();
        assert_eq!(markers, expected.into_iter().copied().collect::<Vec<_>>(), "markers of what is left, and no other");
        let expected = table(self.committed.values());
        let keys: Vec<&String> = seen.iter().map(|record| &record.key).collect();
        assert_eq!(keys.len(), expected.len(), "each key is there once, and no tombstone: {seen:?}");
        self.restart(Crash::LoseUnsynced);
        self.check();
    }
}

fn table<'a>(records: impl IntoIterator<Item = &'a Written>) -> BTreeMap<String, String> {
    let mut table = BTreeMap::new();
    for record in records {
        match &record.value {
            Some(value) => table.insert(record.key.clone(), value.clone()),
            None => table.remove(&record.key),
        };
    }
    table
}

proptest! {
    #[test]
    fn a_reader_from_the_start_ends_with_the_newest_of_each_key(ops in proptest::collection::vec(op(), 1..60)) {
        let mut model = Model::new();
        for op in &ops {
            model.apply(op);
        }
        model.finish();
    }
}
