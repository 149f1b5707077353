//! Tests of one partition's log, on a simulated disk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::append::{Appended, EffectMark, Guard, IDEMPOTENCY_HORIZON_MS};
use crate::fs::file::{create_dir_durably, read_all, write_atomically};
use crate::fs::{Crash, OpenMode, SimFs};
use crate::raw::PartitionEnds;
use crate::record::Record;
use crate::topic::{Gap, PartitionOffsets};

pub(super) mod clients;
mod compaction;
mod damage;
mod dying;
mod faults;
mod guards;
mod reading;
mod recovery;
mod retention;
mod times;
mod transactions;

const DIR: &str = "/p";
pub(super) const NOW: i64 = 1_700_000_000_000;

pub(super) fn settings() -> LogSettings {
    LogSettings {
        segment_size_bytes: 64 << 10,
        max_batch_size_bytes: 32 << 10,
        max_decompressed_size_bytes: 1 << 20,
        max_idempotency_keys: 100,
        timestamp_type: TimestampType::LogAppendTime,
        compression: Compression::None,
        ..LogSettings::new(&BrokerConfig::default(), &TopicConfig::default())
    }
}

pub(super) fn new_fs() -> SimFs {
    let fs = SimFs::new();
    create_dir_durably(&fs, Path::new(DIR)).unwrap();
    fs
}

fn id() -> PartitionId {
    PartitionId { topic: Arc::from("t"), partition: 0 }
}

pub(super) fn try_open(fs: &SimFs, settings: LogSettings) -> Result<(PartitionLog, RecoveryReport), BrokerError> {
    PartitionLog::open(id(), Arc::new(fs.clone()), DIR, settings, NOW)
}

fn open(fs: &SimFs) -> PartitionLog {
    try_open(fs, settings()).unwrap().0
}

fn record(value: impl Into<Vec<u8>>) -> Record {
    Record { value: Some(Bytes::from(value.into())), ..Record::default() }
}

fn value_of(i: usize) -> String {
    format!("value {i} {}", "x".repeat(100))
}

fn append(log: &mut PartitionLog, value: impl Into<Vec<u8>>) -> Result<Appended, BrokerError> {
    log.append(&[record(value)], &Guard::None, NOW)
}

/// A log of `n` batches of one record, each synced by itself.
fn filled(fs: &SimFs, n: usize) -> PartitionLog {
    let mut log = open(fs);
    for i in 0..n {
        append(&mut log, value_of(i)).unwrap();
        log.sync().unwrap();
    }
    log
}

/// Everything committed from the log start on, as offset and value, with the gaps passed.
pub(super) fn read_all_records(view: &PartitionView) -> (Vec<(i64, String)>, Vec<Gap>) {
    let (mut records, mut gaps) = (Vec::new(), Vec::new());
    let PartitionEnds { log_start, last_stable_offset, .. } = view.ends();
    let mut at = log_start;
    while at < last_stable_offset {
        let fetched = view.read(at, 4000).unwrap();
        assert!(fetched.next_offset > at, "a read makes progress");
        records.extend(
            fetched
                .records
                .iter()
                .map(|r| (r.offset, String::from_utf8_lossy(r.value.as_deref().unwrap_or_default()).into_owned())),
        );
        gaps.extend(fetched.gaps);
        at = fetched.next_offset;
    }
    (records, gaps)
}

fn expected(offsets: impl IntoIterator<Item = usize>) -> Vec<(i64, String)> {
    offsets.into_iter().map(|i| (i as i64, value_of(i))).collect()
}

fn files(fs: &SimFs, suffix: &str) -> Vec<PathBuf> {
    let entries = fs.read_dir(Path::new(DIR)).unwrap();
    entries.into_iter().filter(|e| e.name.ends_with(suffix)).map(|e| Path::new(DIR).join(e.name)).collect()
}

fn segment_bytes(fs: &SimFs) -> Vec<u8> {
    read_all(fs, &files(fs, ".log")[0]).unwrap().unwrap()
}

/// Positions and sizes of the batches at the front of a segment.
fn batches(bytes: &[u8]) -> Vec<(usize, usize)> {
    let (mut at, mut found) = (0, Vec::new());
    while let Ok(header) = crate::batch::BatchHeader::parse(&bytes[at..]) {
        found.push((at, header.size_bytes));
        at += header.size_bytes;
    }
    found
}

fn overwrite(fs: &SimFs, path: &Path, at: u64, bytes: &[u8]) {
    let file = fs.open(path, OpenMode::Write).unwrap();
    file.write_all_at(bytes, at).unwrap();
    file.sync_data().unwrap();
}

/// A copy of the filesystem, all of it durable.
fn copy(fs: &SimFs) -> SimFs {
    let twin = new_fs();
    for path in files(fs, "") {
        write_atomically(&twin, &path, &read_all(fs, &path).unwrap().unwrap()).unwrap();
    }
    twin
}

fn effects(task: &str, epoch: i32, marks: &[(i64, i32)]) -> Guard {
    let marks = marks.iter().map(|(position, index)| EffectMark { position: *position, index: *index }).collect();
    Guard::Effects { task: Arc::from(task), epoch, marks }
}

fn idempotent(key: &str) -> Guard {
    Guard::Idempotency { scope: Arc::from(format!("tenant\0{key}")) }
}
