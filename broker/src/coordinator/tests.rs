#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io::ErrorKind;
use std::path::Path;

use super::*;
use crate::fs::file::{create_dir_durably, read_all};
use crate::fs::{Crash, OpenMode, SimFs};

const DIR: &str = "/groups";
const LOGS: Uuid = Uuid::from_u128(1);
const METRICS: Uuid = Uuid::from_u128(2);

fn id_of(topic: &str) -> Option<Uuid> {
    match topic {
        "logs" => Some(LOGS),
        "metrics" => Some(METRICS),
        _ => None,
    }
}

fn new_fs() -> SimFs {
    let fs = SimFs::new();
    create_dir_durably(&fs, Path::new(DIR)).unwrap();
    fs
}

fn open(fs: &SimFs) -> Coordinator {
    Coordinator::open(Arc::new(fs.clone()), DIR.into(), TransactionSettings::default(), id_of).unwrap()
}

fn at(topic: &str, partition: i32, offset: i64, metadata: &str) -> OffsetOfTopic {
    let offset = GroupOffset { topic: Arc::from(topic), partition, offset, metadata: metadata.to_owned() };
    OffsetOfTopic { topic_id: id_of(&offset.topic).unwrap(), offset }
}

fn group(name: &str) -> Arc<str> {
    Arc::from(name)
}

/// Topic, partition, offset and metadata of a group.
fn committed(coordinator: &Coordinator, group: &str) -> Vec<(String, i32, i64, String)> {
    let offsets = coordinator.view().committed(group);
    offsets.into_iter().map(|o| (o.topic.to_string(), o.partition, o.offset, o.metadata)).collect()
}

fn journal(fs: &SimFs) -> PathBuf {
    let mut names: Vec<String> = fs.read_dir(Path::new(DIR)).unwrap().into_iter().map(|e| e.name).collect();
    assert_eq!(names.len(), 1, "{names:?}");
    Path::new(DIR).join(names.remove(0))
}

#[test]
fn a_commit_counts_once_it_is_synced_and_survives() {
    let fs = new_fs();
    let mut coordinator = open(&fs);
    let offsets = vec![at("logs", 1, 10, "note"), at("logs", 0, 5, ""), at("metrics", 0, 7, "ü")];
    coordinator.commit(&group("g"), offsets, None).unwrap();
    assert_eq!(committed(&coordinator, "g"), []);
    coordinator.sync().unwrap();
    let expected = [("logs", 0, 5, ""), ("logs", 1, 10, "note"), ("metrics", 0, 7, "ü")];
    let expected: Vec<_> = expected.iter().map(|(t, p, o, m)| (t.to_string(), *p, *o, m.to_string())).collect();
    assert_eq!(committed(&coordinator, "g"), expected);
    coordinator.commit(&group("g"), vec![at("logs", 0, 99, "")], None).unwrap();
    drop(coordinator);
    fs.crash(Crash::LoseUnsynced);
    let coordinator = open(&fs);
    assert_eq!(committed(&coordinator, "g"), expected, "what was not synced does not count");
    assert_eq!(coordinator.view().groups(), ["g"]);
    assert_eq!(committed(&coordinator, "other"), []);
}

#[test]
fn a_later_commit_replaces_an_earlier_one_also_backwards() {
    let fs = new_fs();
    let mut coordinator = open(&fs);
    for offset in [5, 9, 3] {
        coordinator.commit(&group("g"), vec![at("logs", 0, offset, "")], None).unwrap();
        coordinator.sync().unwrap();
        assert_eq!(committed(&coordinator, "g")[0].2, offset);
    }
    assert_eq!(committed(&open(&fs), "g"), committed(&coordinator, "g"));
}

#[test]
fn epochs_only_rise_and_fence_the_commits_of_earlier_runs() {
    let fs = new_fs();
    let mut coordinator = open(&fs);
    assert_eq!(coordinator.view().epoch("logs/0"), 0);
    assert_eq!(coordinator.begin(&group("logs/0")).unwrap(), 1);
    assert_eq!(coordinator.view().epoch("logs/0"), 0, "not before it is durable");
    coordinator.sync().unwrap();
    assert_eq!(coordinator.view().epoch("logs/0"), 1);
    coordinator.commit(&group("g"), vec![at("logs", 0, 1, "")], Some(("logs/0", 1))).unwrap();
    assert_eq!(coordinator.begin(&group("logs/0")).unwrap(), 2);
    for (epoch, current) in [(1, 2), (3, 2)] {
        let error = coordinator.commit(&group("g"), vec![at("logs", 0, 2, "")], Some(("logs/0", epoch))).unwrap_err();
        assert!(matches!(error, BrokerError::Fenced { epoch: e, current: c, .. } if (e, c) == (epoch, current)));
    }
    let error = coordinator.commit(&group("g"), vec![], Some(("never", 1))).unwrap_err();
    assert!(matches!(error, BrokerError::Fenced { current: 0, .. }));
    coordinator.sync().unwrap();
    drop(coordinator);
    fs.crash(Crash::LoseUnsynced);
    let mut coordinator = open(&fs);
    assert_eq!(committed(&coordinator, "g")[0].2, 1);
    coordinator.raise_epoch(&group("logs/0"), 7);
    coordinator.raise_epoch(&group("logs/1"), 3);
    assert_eq!(coordinator.begin(&group("logs/0")).unwrap(), 8, "above what a partition has seen");
    assert_eq!(coordinator.begin(&group("logs/1")).unwrap(), 4);
}

#[test]
fn the_lowest_offset_counts_only_groups_of_the_prefix() {
    let fs = new_fs();
    let mut coordinator = open(&fs);
    for (name, offset) in [("__highwater.table.logs", 50), ("__highwater.tasks", 40), ("users", 1)] {
        coordinator.commit(&group(name), vec![at("logs", 0, offset, "")], None).unwrap();
    }
    coordinator.sync().unwrap();
    let lowest = |topic, partition| coordinator.view().lowest("__highwater.", &group(topic), partition);
    assert_eq!((lowest("logs", 0), lowest("logs", 1), lowest("metrics", 0)), (Some(40), None, None));
}

#[test]
fn offsets_belong_to_the_topic_that_was_deleted() {
    let fs = new_fs();
    let mut coordinator = open(&fs);
    coordinator.commit(&group("g"), vec![at("logs", 0, 1, ""), at("metrics", 0, 2, "")], None).unwrap();
    coordinator.commit(&group("only-logs"), vec![at("logs", 0, 1, "")], None).unwrap();
    coordinator.sync().unwrap();
    coordinator.forget_topic(LOGS);
    assert_eq!(committed(&coordinator, "g").len(), 1);
    assert_eq!(coordinator.view().groups(), ["g"]);
    // After a restart, with a new topic of the old name.
    let renewed = |topic: &str| if topic == "logs" { Some(Uuid::from_u128(9)) } else { id_of(topic) };
    let coordinator = Coordinator::open(Arc::new(fs), DIR.into(), TransactionSettings::default(), renewed).unwrap();
    assert_eq!(committed(&coordinator, "g"), [("metrics".to_owned(), 0, 2, String::new())]);
}

#[test]
fn a_torn_tail_is_cut_at_every_byte() {
    let fs = new_fs();
    let mut coordinator = open(&fs);
    coordinator.commit(&group("g"), vec![at("logs", 0, 1, "one")], None).unwrap();
    coordinator.sync().unwrap();
    let whole = Entry::Commit { group: group("g"), offsets: vec![] }.encode().len();
    let first_end = {
        let bytes = read_all(&fs, &journal(&fs)).unwrap().unwrap();
        8 + u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize
    };
    assert!(first_end > whole);
    coordinator.commit(&group("g"), vec![at("logs", 0, 2, "two")], None).unwrap();
    coordinator.sync().unwrap();
    drop(coordinator);
    let bytes = read_all(&fs, &journal(&fs)).unwrap().unwrap();
    for cut in first_end..2 * first_end {
        let fs = new_fs();
        let mut torn = bytes.clone();
        torn[cut..].fill(0);
        crate::fs::file::write_atomically(&fs, &Path::new(DIR).join("00000000000000000001.journal"), &torn).unwrap();
        let mut coordinator = open(&fs);
        assert_eq!(committed(&coordinator, "g")[0].2, 1, "cut at {cut}");
        coordinator.commit(&group("g"), vec![at("logs", 0, 3, "three")], None).unwrap();
        coordinator.sync().unwrap();
        drop(coordinator);
        fs.crash(Crash::LoseUnsynced);
        assert_eq!(committed(&open(&fs), "g")[0].2, 3, "cut at {cut}");
    }
}

#[test]
fn damage_in_the_middle_costs_one_entry() {
    let fs = new_fs();
    let mut coordinator = open(&fs);
    for partition in 0..3 {
        coordinator.commit(&group("g"), vec![at("logs", partition, 1, "")], None).unwrap();
        coordinator.sync().unwrap();
    }
    drop(coordinator);
    let path = journal(&fs);
    let size = 8 + u64::from(read_all(&fs, &path).unwrap().unwrap()[3]);
    for byte in size..2 * size {
        fs.flip(&path, byte, 0x40).unwrap();
        let partitions: Vec<i32> = committed(&open(&fs), "g").iter().map(|(_, partition, ..)| *partition).collect();
        assert_eq!(partitions, [0, 2], "byte {byte}");
        fs.flip(&path, byte, 0x40).unwrap();
    }
}

#[test]
fn a_full_disk_refuses_commits_until_there_is_room() {
    let fs = new_fs();
    let mut coordinator = open(&fs);
    coordinator.commit(&group("g"), vec![at("logs", 0, 1, "")], None).unwrap();
    coordinator.sync().unwrap();
    fs.set_capacity(Some(fs.used_bytes()));
    let note = "x".repeat(60_000);
    let mut offset = 2;
    let error = loop {
        match coordinator.commit(&group("g"), vec![at("logs", 0, offset, &note)], None) {
            Ok(()) => offset += 1,
            Err(error) => break error,
        }
    };
    assert!(error.is_retryable(), "{error}");
    coordinator.sync().unwrap();
    assert_eq!(committed(&coordinator, "g")[0].2, offset - 1);
    fs.set_capacity(None);
    coordinator.commit(&group("g"), vec![at("logs", 0, offset, &note)], None).unwrap();
    coordinator.sync().unwrap();
    drop(coordinator);
    fs.crash(Crash::LoseUnsynced);
    assert_eq!(committed(&open(&fs), "g")[0].2, offset);
}

#[test]
fn a_failed_sync_or_write_stops_it_for_good() {
    for fail in ["sync", "write"] {
        let fs = new_fs();
        let mut coordinator = open(&fs);
        coordinator.commit(&group("g"), vec![at("logs", 0, 1, "")], None).unwrap();
        coordinator.sync().unwrap();
        if fail == "sync" {
            fs.fail_next_sync(".journal");
        } else {
            fs.fail_next_write(".journal", 3, ErrorKind::Other);
        }
        let result =
            coordinator.commit(&group("g"), vec![at("logs", 0, 2, "")], None).and_then(|()| coordinator.sync());
        assert!(matches!(result, Err(BrokerError::Stopped { .. })), "{fail}");
        assert!(matches!(coordinator.begin(&group("t")), Err(BrokerError::Stopped { .. })));
        assert_eq!(committed(&coordinator, "g")[0].2, 1, "what was durable can be read");
    }
}

#[test]
fn the_journal_is_written_anew_when_most_of_it_is_out_of_date() {
    let fs = new_fs();
    let mut coordinator = open(&fs);
    coordinator.begin(&group("t")).unwrap();
    let note = "x".repeat(10_000);
    for offset in 0..500 {
        coordinator.commit(&group("g"), vec![at("logs", 0, offset, &note)], None).unwrap();
        coordinator.sync().unwrap();
    }
    let size = fs.open(&journal(&fs), OpenMode::Read).unwrap().size_bytes().unwrap();
    assert!(size < COMPACT_ABOVE_BYTES, "{size}");
    assert!(journal(&fs).ends_with("00000000000000000002.journal"));
    drop(coordinator);
    fs.crash(Crash::LoseUnsynced);
    let mut coordinator = open(&fs);
    assert_eq!(committed(&coordinator, "g"), [("logs".to_owned(), 0, 499, note)]);
    assert_eq!(coordinator.begin(&group("t")).unwrap(), 2);
}

#[test]
fn any_power_loss_keeps_what_was_acknowledged() {
    for seed in 0..200 {
        let fs = new_fs();
        let mut coordinator = open(&fs);
        let mut acknowledged = -1;
        for offset in 0..40 {
            coordinator.commit(&group("g"), vec![at("logs", 0, offset, &"y".repeat(300))], None).unwrap();
            if offset % 7 == seed as i64 % 7 {
                coordinator.sync().unwrap();
                acknowledged = offset;
            }
        }
        drop(coordinator);
        fs.crash(Crash::Tear(seed));
        let found = committed(&open(&fs), "g").first().map_or(-1, |c| c.2);
        assert!((acknowledged..40).contains(&found), "seed {seed}: {found} after {acknowledged} was acknowledged");
    }
}

#[test]
fn nonsense_is_refused() {
    let fs = new_fs();
    let mut coordinator = open(&fs);
    for name in ["", "a\0b", &"x".repeat(2000)] {
        assert!(matches!(coordinator.begin(&group(name)), Err(BrokerError::InvalidConfig { .. })), "{name:?}");
        let commit = coordinator.commit(&group(name), vec![], None);
        assert!(matches!(commit, Err(BrokerError::InvalidConfig { .. })), "{name:?}");
    }
    let refused = coordinator.commit(&group("g"), vec![at("logs", 0, -1, "")], None);
    assert!(matches!(refused, Err(BrokerError::InvalidRequest { .. })));
    let refused = coordinator.commit(&group("g"), vec![at("logs", 0, 1, &"x".repeat(70_000))], None);
    assert!(matches!(refused, Err(BrokerError::InvalidRequest { .. })));
    assert_eq!(Entry::decode(&[9, 9, 9]), None);
}

fn committed_at(offset: i64, committed_at_ms: i64) -> Committed {
    Committed {
        offset,
        leader_epoch: 4,
        metadata: "note".to_owned(),
        committed_at_ms: Some(committed_at_ms),
        expires_at_ms: None,
    }
}

fn commit_of(name: &str, topic: &str, partition: i32, committed: Committed) -> Entry {
    let offset = CommittedOffset { topic: Arc::from(topic), topic_id: id_of(topic).unwrap(), partition, committed };
    Entry::Commit { group: group(name), offsets: vec![offset] }
}

fn stored_group() -> StoredGroup {
    let member = |id: &str, instance: Option<&str>| StoredMember {
        id: group(id),
        instance_id: instance.map(group),
        client_id: group("client"),
        client_host: group("/10.0.0.1"),
        session_timeout_ms: 45_000,
        rebalance_timeout_ms: 300_000,
        protocols: vec![(group("range"), bytes::Bytes::from_static(b"\0\x01")), (group("sticky"), bytes::Bytes::new())],
        assignment: bytes::Bytes::from_static(b"assigned"),
    };
    StoredGroup {
        protocol_type: Some(group("consumer")),
        generation: 7,
        protocol: Some(group("range")),
        leader: Some(group("a")),
        since_ms: 1_700_000_000_000,
        members: vec![member("a", None), member("b", Some("instance"))],
    }
}

#[test]
fn every_kind_of_entry_comes_back_as_it_was_and_no_shorter_one_does() {
    let entries = [
        commit_of("g", "logs", 3, committed_at(9, 1_000)),
        Entry::Epoch { task: group("logs/0"), epoch: 5 },
        Entry::Group { group: group("g"), state: Box::new(stored_group()) },
        Entry::ForgetOffsets { group: group("g"), partitions: vec![(group("logs"), 3), (group("metrics"), 0)] },
        Entry::DeleteGroup { group: group("g") },
    ];
    for entry in entries {
        let bytes = entry.encode();
        for cut in 0..bytes.len() {
            assert_eq!(Entry::decode(&bytes[..cut]), None, "{cut} bytes of {entry:?}");
        }
        assert_eq!(Entry::decode(&bytes), Some(entry));
    }
}

/// Bytes as the first format wrote them: the journals of today's installations hold these.
#[test]
fn offsets_of_the_first_format_are_read_and_kept_for_ever() {
    let mut bytes = vec![1];
    wire::put_text(&mut bytes, "g");
    wire::put_count(&mut bytes, 1);
    wire::put_text(&mut bytes, "logs");
    bytes.extend_from_slice(LOGS.as_bytes());
    bytes.extend_from_slice(&2i32.to_be_bytes());
    bytes.extend_from_slice(&77i64.to_be_bytes());
    wire::put_text(&mut bytes, "note");
    let committed = Committed {
        offset: 77,
        leader_epoch: -1,
        metadata: "note".to_owned(),
        committed_at_ms: None,
        expires_at_ms: None,
    };
    assert_eq!(Entry::decode(&bytes), Some(commit_of("g", "logs", 2, committed)));
}

#[test]
fn groups_and_their_offsets_survive_until_they_are_deleted() {
    let fs = new_fs();
    let mut coordinator = open(&fs);
    coordinator.record(commit_of("g", "logs", 0, committed_at(5, 1_000))).unwrap();
    coordinator.record(commit_of("g", "logs", 1, committed_at(6, 2_000))).unwrap();
    coordinator.record(commit_of("other", "logs", 1, committed_at(8, 2_000))).unwrap();
    coordinator.record(Entry::Group { group: group("g"), state: Box::new(stored_group()) }).unwrap();
    coordinator.sync().unwrap();
    coordinator.journal.replace(&coordinator.view.state.read().entries()).unwrap();
    drop(coordinator);
    fs.crash(Crash::LoseUnsynced);

    let mut coordinator = open(&fs);
    assert_eq!(coordinator.view().stored_groups(), [(group("g"), stored_group())]);
    assert_eq!(coordinator.view().offset("g", &group("logs"), 0), Some(committed_at(5, 1_000)));
    let partitions = vec![(group("logs"), 0), (group("logs"), 99)];
    coordinator.record(Entry::ForgetOffsets { group: group("g"), partitions }).unwrap();
    coordinator.sync().unwrap();
    assert_eq!(coordinator.view().offset("g", &group("logs"), 0), None);
    assert_eq!(coordinator.view().offset("g", &group("logs"), 1), Some(committed_at(6, 2_000)));
    coordinator.record(Entry::DeleteGroup { group: group("g") }).unwrap();
    coordinator.sync().unwrap();
    drop(coordinator);
    fs.crash(Crash::LoseUnsynced);

    let coordinator = open(&fs);
    assert_eq!(coordinator.view().stored_groups(), []);
    assert_eq!(coordinator.view().groups(), ["other"]);
}

#[test]
fn expiry_sees_what_was_committed_just_before_it() {
    let fs = new_fs();
    let mut coordinator = open(&fs);
    let old = |_: &str, _: i32, committed: &Committed| committed.committed_at_ms.is_some_and(|at| at < 1_500);
    coordinator.record(commit_of("g", "logs", 0, committed_at(5, 1_000))).unwrap();
    coordinator.record(commit_of("g", "logs", 1, committed_at(6, 1_000))).unwrap();
    coordinator.sync().unwrap();
    // On its way, not synced: expiry must not take the newer commit for the older one.
    coordinator.record(commit_of("g", "logs", 1, committed_at(7, 2_000))).unwrap();
    assert_eq!(coordinator.expire(&group("g"), true, old).unwrap(), Expired { offsets: 1, deleted: false });
    coordinator.sync().unwrap();
    assert_eq!(committed(&coordinator, "g"), [("logs".to_owned(), 1, 7, "note".to_owned())]);
    let all = |_: &str, _: i32, _: &Committed| true;
    assert_eq!(coordinator.expire(&group("g"), false, all).unwrap(), Expired { offsets: 1, deleted: false });
    coordinator.record(Entry::Group { group: group("g"), state: Box::new(stored_group()) }).unwrap();
    assert_eq!(coordinator.expire(&group("g"), true, all).unwrap(), Expired { offsets: 0, deleted: true });
    coordinator.sync().unwrap();
    assert_eq!(open(&fs).view().stored_groups(), []);
}
