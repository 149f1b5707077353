//! Dying at every single step of whatever a log does: in the middle of an append, a roll, a checkpoint, a change of the log
//! start, a close, and of recovery itself.

use super::*;

/// Small enough that a handful of appends rolls.
fn tiny() -> LogSettings {
    LogSettings { segment_size_bytes: 4 << 10, max_batch_size_bytes: 4 << 10, ..settings() }
}

/// What the outside was told.
#[derive(Debug, Default)]
struct Told {
    /// Appends acknowledged, i.e. offsets `0..acknowledged`.
    acknowledged: usize,
    /// Appends that were tried.
    tried: usize,
    /// Log starts that were asked for, and answered.
    log_start: i64,
    log_start_tried: i64,
}

/// Appends, rolls, notes recovery points, deletes and closes until it is done or something fails.
fn live(fs: &SimFs, told: &mut Told) -> Result<(), BrokerError> {
    let (mut log, _) = try_open(fs, tiny())?;
    for round in 0..6 {
        for i in 0..10 {
            let n = log.next_offset() as usize;
            told.tried = told.tried.max(n + 1);
            let guard = effects("task", 1, &[(n as i64, 0)]);
            let appended = log.append(&[record(value_of(n))], &guard, NOW)?;
            assert_eq!((appended.base_offset, appended.suppressed), (n as i64, 0));
            if i % 3 == 2 {
                log.sync()?;
                told.acknowledged = log.next_offset() as usize;
            }
        }
        log.sync()?;
        told.acknowledged = log.next_offset() as usize;
        log.write_recovery_point()?;
        if round % 2 == 1 {
            told.log_start_tried = (told.acknowledged - 12) as i64;
            told.log_start = log.advance_log_start(told.log_start_tried)?;
        }
    }
    log.close()
}

/// The log holds what was acknowledged, perhaps a continuation of it, and nothing else, with the guard that goes with it.
fn check(log: &mut PartitionLog, told: &Told, what: &str) {
    let PartitionOffsets { log_start, high_watermark } = log.view().offsets();
    assert!(log_start == told.log_start || log_start == told.log_start_tried, "{what}: {log_start} {told:?}");
    assert!((told.acknowledged..=told.tried).contains(&(high_watermark as usize)), "{what}: {high_watermark} {told:?}");
    let all = expected(log_start as usize..high_watermark as usize);
    assert_eq!(read_all_records(log.view()), (all, vec![]), "{what}");
    if high_watermark > 0 {
        let again = effects("task", 1, &[(high_watermark - 1, 0), (high_watermark, 0)]);
        let appended = log.append(&[record("again"), record(value_of(high_watermark as usize))], &again, NOW).unwrap();
        assert_eq!((appended.suppressed, appended.base_offset), (1, high_watermark), "{what}");
    }
}

#[test]
fn at_any_step_nothing_acknowledged_is_lost_and_nothing_is_there_twice() {
    let mut steps = 0;
    loop {
        let mut done = false;
        for crash in [Crash::Kill, Crash::LoseUnsynced, Crash::Tear(steps), Crash::Tear(steps + 100_000)] {
            let fs = new_fs();
            let mut told = Told::default();
            fs.die_after(steps);
            done |= live(&fs, &mut told).is_ok();
            fs.crash(crash);
            let (mut log, report) = try_open(&fs, tiny()).unwrap();
            assert_eq!(report.damaged_ranges, 0, "step {steps} {crash:?}");
            assert!(!report.guard_state_incomplete, "step {steps} {crash:?}");
            check(&mut log, &told, &format!("step {steps} {crash:?}"));
        }
        if done {
            break;
        }
        steps += 1;
    }
    assert!(steps > 150, "{steps} steps are too few to mean anything");
}

#[test]
fn dying_in_recovery_is_recovered_from() {
    let torn = |seed| {
        let fs = new_fs();
        let mut told = Told::default();
        fs.die_after(60 + seed);
        live(&fs, &mut told).unwrap_err();
        fs.crash(Crash::Tear(seed));
        (fs, told)
    };
    for seed in 0..40 {
        for steps in 0.. {
            let (fs, told) = torn(seed);
            fs.die_after(steps);
            let opened = try_open(&fs, tiny()).is_ok();
            fs.crash(Crash::Tear(seed + steps));
            let (mut log, report) = try_open(&fs, tiny()).unwrap();
            assert_eq!(report.damaged_ranges, 0, "seed {seed} step {steps}");
            check(&mut log, &told, &format!("seed {seed} step {steps}"));
            if opened {
                break;
            }
        }
    }
}
