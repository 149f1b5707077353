//! Nothing twice: effects, epochs, idempotency keys.

use super::*;

#[test]
fn an_idempotency_key_is_known_across_every_kind_of_restart() {
    for stop in ["run on", "close", "kill", "lose", "roll"] {
        let fs = new_fs();
        let mut log = open(&fs);
        append(&mut log, value_of(0)).unwrap();
        let first = log.append(&[record("a"), record("b")], &idempotent("k"), NOW).unwrap();
        assert_eq!((first.base_offset, first.last_offset, first.duplicate), (1, 2, false));
        log.sync().unwrap();
        match stop {
            "close" => log.close().unwrap(),
            "roll" => drop((0..700).map(|i| append(&mut log, value_of(i)).unwrap()).last()),
            _ => {}
        }
        if stop != "run on" {
            drop(log);
            fs.crash(if stop == "kill" { Crash::Kill } else { Crash::LoseUnsynced });
            log = open(&fs);
        }
        let end = log.next_offset();
        let again = log.append(&[record("a"), record("b")], &idempotent("k"), NOW + 1000).unwrap();
        assert_eq!(again, Appended { duplicate: true, ..first }, "{stop}");
        assert_eq!(log.next_offset(), end);
        let other = log.append(&[record("c")], &idempotent("other"), NOW).unwrap();
        assert!(!other.duplicate && other.base_offset == end);
    }
}

#[test]
fn an_idempotency_key_lasts_a_day_of_append_time() {
    let fs = new_fs();
    let mut log = open(&fs);
    let mut at = |time| log.append(&[record("a")], &idempotent("k"), time).unwrap().duplicate;
    assert!(!at(NOW));
    assert!(at(NOW + IDEMPOTENCY_HORIZON_MS - 1));
    assert!(!at(NOW + IDEMPOTENCY_HORIZON_MS));
    assert!(at(NOW + IDEMPOTENCY_HORIZON_MS + 1), "the new one counts from its own time");
    assert!(at(NOW), "a clock that goes back forgets nothing");
}

#[test]
fn too_many_idempotency_keys_push_out_the_oldest() {
    let fs = new_fs();
    let mut log = open(&fs);
    for i in 0..150 {
        log.append(&[record("a")], &idempotent(&i.to_string()), NOW).unwrap();
    }
    assert_eq!(log.forgotten_keys(), 50);
    let mut is_known = |i: usize| log.append(&[record("a")], &idempotent(&i.to_string()), NOW).unwrap().duplicate;
    assert!(is_known(50) && is_known(149));
    assert!(!is_known(49));
}

#[test]
fn effects_are_applied_once_whatever_the_boundaries_of_a_replay() {
    let fs = new_fs();
    let mut log = open(&fs);
    let records = |values: &[&str]| values.iter().map(|v| record(*v)).collect::<Vec<_>>();
    log.append(&records(&["10.0", "10.1"]), &effects("a", 1, &[(10, 0), (10, 1)]), NOW).unwrap();
    log.append(&records(&["b"]), &effects("b", 4, &[(3, 0)]), NOW).unwrap();
    log.append(&records(&["12.5"]), &effects("a", 1, &[(12, 5)]), NOW).unwrap();
    log.sync().unwrap();
    for crash in [Crash::Kill, Crash::LoseUnsynced] {
        drop(log);
        fs.crash(crash);
        log = open(&fs);
        // The replay cuts its batches elsewhere.
        let replay = records(&["10.1", "12.5", "13.0"]);
        let epoch = if crash == Crash::Kill { 2 } else { 3 };
        let appended = log.append(&replay, &effects("a", epoch, &[(10, 1), (12, 5), (13, 0)]), NOW).unwrap();
        if crash == Crash::Kill {
            assert_eq!((appended.suppressed, appended.base_offset, appended.last_offset), (2, 4, 4));
        } else {
            assert_eq!((appended.suppressed, appended.base_offset, appended.last_offset), (3, 5, 4));
        }
        log.sync().unwrap();
    }
    let values: Vec<String> = read_all_records(log.view()).0.into_iter().map(|(_, v)| v).collect();
    assert_eq!(values, ["10.0", "10.1", "b", "12.5", "13.0"]);
    let tasks: Vec<_> = log.tasks().map(|(name, t)| (name.to_string(), t.epoch, t.mark.position)).collect();
    assert_eq!(tasks, [("a".to_string(), 2, 13), ("b".to_string(), 4, 3)], "a run that wrote nothing left no trace");
}

#[test]
fn an_older_epoch_is_fenced_also_after_a_restart() {
    let fs = new_fs();
    let mut log = open(&fs);
    log.append(&[record("new")], &effects("a", 2, &[(5, 0)]), NOW).unwrap();
    log.sync().unwrap();
    for _ in 0..2 {
        let error = log.append(&[record("zombie")], &effects("a", 1, &[(6, 0)]), NOW).unwrap_err();
        assert!(matches!(error, BrokerError::Fenced { epoch: 1, current: 2, .. }), "{error}");
        drop(log);
        fs.crash(Crash::LoseUnsynced);
        log = open(&fs);
    }
    assert_eq!(log.next_offset(), 1);
}

#[test]
fn a_key_keeps_its_age_where_the_clock_was_set_back_before_a_restart() {
    let fs = new_fs();
    let mut log = open(&fs);
    let appended_ms = NOW + IDEMPOTENCY_HORIZON_MS;
    log.append(&[record("k")], &idempotent("k"), appended_ms).unwrap();
    log.sync().unwrap();
    drop(log);
    fs.crash(Crash::Kill);
    // It opens at NOW, a day earlier; then the clock is put right.
    let mut log = open(&fs);
    let again = log.append(&[record("k")], &idempotent("k"), appended_ms + 5_000).unwrap();
    assert!(again.duplicate);
    assert_eq!(again.append_time_ms, appended_ms);
}

#[test]
fn the_guard_state_survives_damaged_snapshots() {
    let fs = new_fs();
    let mut log = open(&fs);
    log.append(&[record("e")], &effects("a", 3, &[(7, 1)]), NOW).unwrap();
    log.append(&[record("k")], &idempotent("k"), NOW).unwrap();
    log.sync().unwrap();
    for i in 0..1500 {
        append(&mut log, value_of(i)).unwrap();
    }
    log.sync().unwrap();
    drop(log);
    fs.crash(Crash::Kill);
    let snapshots = files(&fs, ".state");
    assert_eq!(snapshots.len(), 2);
    for damaged in [vec![1], vec![0, 1]] {
        let fs = copy(&fs);
        for i in damaged {
            fs.flip(&snapshots[i], 20, 1).unwrap();
        }
        let (mut log, report) = try_open(&fs, settings()).unwrap();
        assert!(!report.guard_state_incomplete);
        assert_eq!(log.append(&[record("e")], &effects("a", 3, &[(7, 1)]), NOW).unwrap().suppressed, 1);
        assert!(log.append(&[record("k")], &idempotent("k"), NOW).unwrap().duplicate);
    }
    // Where the records themselves are gone as well, that is said.
    let mut log = open(&fs);
    log.advance_log_start(800).unwrap();
    drop(log);
    for snapshot in snapshots {
        fs.remove_file(&snapshot).unwrap();
    }
    assert!(try_open(&fs, settings()).unwrap().1.guard_state_incomplete);
}
