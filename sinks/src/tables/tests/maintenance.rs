//! Upkeep beside writers, readers and other upkeep: nothing a reader counts changes but what retention takes.

use arrow::array::StringArray;
use deltalake_core::kernel::Action;
use highwater_pipeline::tables::Retention;
use tokio::sync::Semaphore;

use super::superseding::{close, table as rollup};
use super::*;
use crate::tables::maintenance::{Compacted, Eagerness};
use crate::testing::Fault;

/// A table of `commits` commits, each with rows of both partitions.
async fn written(world: &World, commits: usize) -> TableHandle {
    let writer = world.start();
    for i in 0..commits {
        world.append(0, 3 + i % 4);
        world.append(1, 5);
        flush(world, &writer).await;
    }
    writer
}

/// Flushes, and waits for the checkpoint if the commit asks for one: it is of the newest commit when it is begun.
async fn flush(world: &World, writer: &TableHandle) {
    writer.flush().await.unwrap();
    let log = world.dir.path().join("tables/logs/_delta_log");
    let names = std::fs::read_dir(&log).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let newest: u64 = names.filter_map(|n| n.strip_suffix(".json")?.parse().ok()).max().unwrap();
    if newest > 0 && newest.is_multiple_of(world.config.checkpoint_every) {
        let checkpoint = log.join(format!("{newest:020}.checkpoint.parquet"));
        eventually("a checkpoint of the commit", async || checkpoint.exists()).await;
    }
}

/// Upkeep does nothing by itself here.
fn world(partitions: i32) -> World {
    let mut world = World::new(partitions);
    world.config.compaction = false;
    world
}

async fn compact(world: &World) -> Compacted {
    world.maintainer(logs_table()).await.compact(Eagerness::Everything).await.unwrap()
}

/// The actions of a version.
async fn actions(world: &World, version: u64) -> Vec<Action> {
    let delta = world.delta("logs").await;
    let bytes = delta.log_store().read_commit_entry(version).await.unwrap().unwrap();
    deltalake_core::logstore::get_actions(version, &bytes).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_files_become_one_sorted_file_and_no_row_is_another() {
    let world = world(2);
    let writer = written(&world, 12).await;
    let before = world.identities("logs").await;
    let compacted = compact(&world).await;
    assert_eq!((compacted.merged_files, compacted.files, compacted.rows), (12, 1, before.len() as u64));
    assert_eq!(world.identities("logs").await, before);
    let table = world.delta("logs").await;
    assert_eq!(table.version(), Some(13));
    let actions = actions(&world, 13).await;
    let changes = actions.iter().filter_map(|action| match action {
        Action::Add(add) => Some(add.data_change),
        Action::Remove(remove) => Some(remove.data_change),
        _ => None,
    });
    assert_eq!(changes.collect::<Vec<_>>(), [false; 13]);

    // Sorted by service and time; rows that sort equal lie in the order of the log.
    let batches = world.read("logs").await;
    let mut keys = Vec::new();
    for batch in &batches {
        let services: &StringArray = batch.column_by_name("service").unwrap().as_string();
        let times = batch.column_by_name("timestamp").unwrap();
        let times = times.as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
        let identities = identities_of(batch);
        keys.extend((0..batch.num_rows()).map(|i| (services.value(i).to_string(), times.value(i), identities[i])));
    }
    assert!(keys.is_sorted(), "{keys:?}");

    world.assert_clean().await;
    // Nothing is left to merge, and the writer goes on.
    assert_eq!(compact(&world).await, Compacted::default());
    world.append(0, 7);
    writer.flush().await.unwrap();
    assert_eq!(world.assert_clean().await, before.len() as u64 + 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_runs_by_itself_in_tiers() {
    let mut world = World::new(2);
    world.config.compaction_interval_ms = 5;
    let writer = written(&world, 20).await;
    eventually("the small files are merged", async || {
        world.delta("logs").await.snapshot().unwrap().log_data().num_files() < 8
    })
    .await;
    writer.flush().await.unwrap();
    world.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_size_of_files_is_bounded() {
    let mut world = world(2);
    world.config.row_group_rows = 64;
    let writer = world.start();
    for _ in 0..12 {
        world.append(0, 400);
        writer.flush().await.unwrap();
    }
    let delta = world.delta("logs").await;
    let size = delta.snapshot().unwrap().log_data().iter().next().unwrap().size() as u64;
    world.config.compaction_target_bytes = size * 2;
    let before = world.identities("logs").await;
    let compacted = compact(&world).await;
    assert!(compacted.files > 1 && compacted.files < 12, "{compacted:?}");
    for file in world.delta("logs").await.snapshot().unwrap().log_data().iter() {
        assert!((file.size() as u64) < size * 5, "{} of {size}", file.size());
    }
    assert_eq!(world.identities("logs").await, before);
    world.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_compactors_at_once_are_harmless() {
    let world = world(2);
    let writer = written(&world, 16).await;
    let before = world.identities("logs").await;
    let (mut a, mut b) = (world.maintainer(logs_table()).await, world.maintainer(logs_table()).await);
    let (a, b) = tokio::join!(a.compact(Eagerness::Everything), b.compact(Eagerness::Everything));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert!(a.merged_files + b.merged_files >= 16, "{a:?} {b:?}");
    assert_eq!(world.identities("logs").await, before);
    world.assert_clean().await;
    drop(writer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merge_whose_file_is_gone_meanwhile_leaves_nothing() {
    let world = world(2);
    let writer = written(&world, 8).await;
    let before = world.identities("logs").await;
    let files = world.parquet_files();
    // The first compactor's commit is held; the second one's goes in.
    let gate = Arc::new(Semaphore::new(0));
    world.faults.inject("_delta_log/00000000000000000009.json", 1, Fault::Hold(Arc::clone(&gate)));
    let mut first = world.maintainer(logs_table()).await;
    let held = tokio::spawn(async move { first.compact(Eagerness::Everything).await });
    eventually("the commit is on its way", async || world.faults.puts("00000000000000000009.json") == 1).await;
    assert_eq!(compact(&world).await.merged_files, 8);
    gate.add_permits(1);
    let compacted = held.await.unwrap().unwrap();
    assert_eq!((compacted.merged_files, compacted.overtaken), (0, 1));
    assert_eq!(world.parquet_files(), files + 1, "what the first one wrote is gone again");
    assert_eq!(world.identities("logs").await, before);
    world.assert_clean().await;
    drop(writer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_correction_meanwhile_wins() {
    let mut world = World { log: MemoryLog::with_topic("rollup.r", 1), ..World::new(1) };
    world.config.compaction = false;
    let writer = world.start_with(rollup());
    for window in 0..8 {
        close(&world, 0, window, 0, &[("web", 1), ("db", window)]);
        writer.flush().await.unwrap();
    }
    let gate = Arc::new(Semaphore::new(0));
    world.faults.inject("_delta_log/00000000000000000009.json", 1, Fault::Hold(Arc::clone(&gate)));
    let mut maintainer = world.maintainer(rollup()).await;
    let held = tokio::spawn(async move { maintainer.compact(Eagerness::Everything).await });
    eventually("the merge is on its way", async || world.faults.puts("00000000000000000009.json") == 1).await;
    close(&world, 0, 3, 1, &[("web", 100)]);
    writer.flush().await.unwrap();
    gate.add_permits(1);
    let compacted = held.await.unwrap().unwrap();
    assert_eq!(compacted.overtaken, 1);
    assert_eq!(compacted.merged_files, 8, "then it begins anew, with what the correction left");
    world.assert_clean().await;
    assert_eq!(world.identities("r").await.len(), 15);

    // And the other way round: the correction is planned, and the merge takes its file away.
    close(&world, 0, 9, 0, &[("web", 1)]);
    writer.flush().await.unwrap();
    let version = world.delta("r").await.version().unwrap();
    let gate = Arc::new(Semaphore::new(0));
    let next = format!("_delta_log/{:020}.json", version + 1);
    world.faults.inject(&next, 1, Fault::Hold(Arc::clone(&gate)));
    close(&world, 0, 5, 1, &[("web", 50)]);
    let flush = async { writer.flush().await.unwrap() };
    let merge = async {
        eventually("the correction is on its way", async || world.faults.puts(&next) == 1).await;
        let compacted = world.maintainer(rollup()).await.compact(Eagerness::Everything).await.unwrap();
        assert_eq!(compacted.merged_files, 2);
        gate.add_permits(1);
    };
    tokio::join!(flush, merge);
    world.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_reply_is_found_and_a_full_disk_leaves_the_table_as_it_was() {
    let world = world(2);
    let writer = written(&world, 8).await;
    let before = world.identities("logs").await;
    world.faults.inject("tenant=", usize::MAX, Fault::DiskFull);
    let error = world.maintainer(logs_table()).await.compact(Eagerness::Everything).await.unwrap_err();
    assert!(error.to_string().contains("space"), "{error}");
    assert_eq!(world.identities("logs").await, before);
    world.faults.heal();
    world.faults.inject("_delta_log/00000000000000000009.json", 1, Fault::LostReply);
    assert_eq!(compact(&world).await.merged_files, 8);
    assert_eq!(world.delta("logs").await.version(), Some(9), "one commit");
    assert_eq!(world.identities("logs").await, before);
    world.assert_clean().await;
    drop(writer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_old_versions_keep_their_files_until_the_grace_is_over() {
    let world = world(2);
    let writer = written(&world, 8).await;
    let before = world.identities("logs").await;
    let old = world.delta("logs").await;
    compact(&world).await;
    let read_old = async || {
        let mut rows = 0;
        for file in old.snapshot().unwrap().log_data().iter() {
            let Ok(found) = old.object_store().get(&file.object_store_path()).await else { return None };
            let bytes = found.bytes().await.unwrap();
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
            rows += reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>();
        }
        Some(rows)
    };
    let mut maintainer = world.maintainer(logs_table()).await;
    let vacuumed = maintainer.vacuum().await.unwrap();
    assert_eq!((vacuumed.removed, vacuumed.unnamed), (0, 0));
    assert_eq!(read_old().await, Some(before.len()));
    world.clock.advance_ms(world.config.vacuum_after_ms as i64 + 1);
    let vacuumed = maintainer.vacuum().await.unwrap();
    assert_eq!((vacuumed.removed, vacuumed.unnamed), (8, 0));
    assert_eq!(read_old().await, None);
    assert_eq!(world.parquet_files(), 1);
    assert_eq!(world.identities("logs").await, before);
    world.assert_clean().await;
    drop(writer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_takes_what_is_past_its_age_and_verify_knows() {
    let mut world = world(2);
    let writer = written(&world, 4).await;
    // Appended in 2023, of a day in 2025.
    let age_ms = (now_ms() - (DAY / 1000 + 86_400_000)) as u64;
    world.config.retention = vec![RetentionRule { age_ms: Some(age_ms + 60_000), ..keep_all("logs") }];
    let retained = world.maintainer(logs_table()).await.retain().await.unwrap();
    assert_eq!(retained.files, 0, "not yet");
    world.config.retention = vec![
        RetentionRule { age_ms: Some(age_ms - 60_000), ..keep_all("logs") },
        RetentionRule { tenant: Some("other".into()), ..keep_all("logs") },
    ];
    let rows = world.identities("logs").await.len() as u64;
    let retained = world.maintainer(logs_table()).await.retain().await.unwrap();
    assert_eq!((retained.files, retained.rows), (4, rows));
    assert_eq!(world.assert_clean().await, 0, "removed by right, with the log at hand");
    let report = verify(&world.storage, &[], || Ok(None)).await.unwrap();
    assert!(report.is_clean(), "{report}");
    // What was lost is still told from it.
    world.append(0, 6);
    writer.flush().await.unwrap();
    world.assert_clean().await;
    let path = world.dir.path().join("tables/logs/_delta_log/00000000000000000005.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen(r#""rows":5"#, r#""rows":4"#, 1)).unwrap();
    let report = verify(&world.storage, &[], || Ok(None)).await.unwrap();
    assert!(report.to_string().contains("rows are not there any more, of which retention took"), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_by_size_takes_the_oldest_and_a_compacted_table_stays_true() {
    let mut world = world(2);
    let writer = world.start();
    let mut sizes = Vec::new();
    for day in 0..4 {
        let rows: Vec<LogRow> = (0..50)
            .map(|i| LogRow {
                timestamp_us: DAY + day * DAY_US + i,
                tenant: "default".into(),
                message: format!("m{i}"),
                ..LogRow::default()
            })
            .collect();
        for half in rows.chunks(25) {
            world.log.push("logs", 0, log_record(half));
            writer.flush().await.unwrap();
        }
    }
    compact(&world).await;
    for file in world.delta("logs").await.snapshot().unwrap().log_data().iter() {
        sizes.push(file.size() as u64);
    }
    assert_eq!(sizes.len(), 4, "one file a day");
    let limit = sizes.iter().sum::<u64>() - 1;
    let spec = TableSpec { retention: Retention { age_ms: None, size_bytes: Some(limit) }, ..logs_table() };
    world.config.retention.clear();
    let retained = world.maintainer(spec.clone()).await.retain().await.unwrap();
    assert_eq!((retained.files, retained.rows), (1, 50));
    assert_eq!(world.assert_clean().await, 150);
    let dates: Vec<_> =
        world.delta("logs").await.snapshot().unwrap().log_data().iter().map(|f| f.path().to_string()).collect();
    assert!(dates.iter().all(|path| !path.contains("2025-11-20")), "the oldest: {dates:?}");
    assert_eq!(world.maintainer(spec).await.retain().await.unwrap().files, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_commits_go_and_the_cover_stays_provable() {
    let mut world = world(2);
    world.config.checkpoint_every = 5;
    let writer = written(&world, 11).await;
    let commits = |world: &World| {
        let log = world.dir.path().join("tables/logs/_delta_log");
        let names = std::fs::read_dir(log).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".json")).count()
    };
    let rows = world.assert_clean().await;
    assert_eq!(world.maintainer(logs_table()).await.clean_history().await.unwrap(), 0, "not old yet");
    world.clock.advance_ms(world.config.history_ms as i64 + 60_000);
    assert_eq!(world.maintainer(logs_table()).await.clean_history().await.unwrap(), 10);
    assert_eq!(commits(&world), 3, "10, 11 and the summary");
    let report = world.verify().await;
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.tables[0].rows, report.tables[0].commits), (rows, 11));
    assert!(report.tables[0].notes.is_empty(), "{report}");
    // The writer does not put anything on a version it has not seen for so long.
    world.append(0, 4);
    writer.flush().await.unwrap();
    assert_eq!(world.assert_clean().await, rows + 4);
    // A second time, the summary of the summary; killed half-way through deleting.
    for _ in 0..10 {
        world.append(1, 1);
        flush(&world, &writer).await;
    }
    world.clock.advance_ms(world.config.history_ms as i64 + 60_000);
    let kept = world.dir.path().join("tables/logs/_delta_log/00000000000000000015.json");
    let text = std::fs::read(&kept).unwrap();
    assert!(world.maintainer(logs_table()).await.clean_history().await.unwrap() >= 9);
    for version in 15..20 {
        let path = world.dir.path().join(format!("tables/logs/_delta_log/{version:020}.json"));
        if !path.exists() {
            std::fs::write(&path, if version == 15 { text.clone() } else { br#"{"commitInfo":{}}"#.to_vec() }).unwrap();
        }
    }
    let report = world.verify().await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.tables[0].rows, rows + 14);
    assert!(report.tables[0].notes.is_empty(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_that_the_description_lacks_survives_compaction() {
    let world = world(1);
    let writer = written_wide(&world).await;
    compact_wide(&world).await;
    drop(writer);
    let batches = world.read("logs").await;
    let values: Vec<Option<String>> = batches
        .iter()
        .flat_map(|b| {
            b.column_by_name("extra")
                .unwrap()
                .as_string::<i32>()
                .iter()
                .map(|v| v.map(str::to_string))
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(values.iter().filter(|v| v.as_deref() == Some("kept")).count(), 3);
}

/// Files with a column that the table's description does not have, as of a later version.
async fn written_wide(world: &World) -> TableHandle {
    let spec = logs_table();
    let writer = world.start();
    world.append(0, 3);
    writer.flush().await.unwrap();
    world.append(0, 3);
    writer.flush().await.unwrap();
    // The last file, with one column more.
    let delta = world.delta("logs").await;
    let file = delta
        .snapshot()
        .unwrap()
        .log_data()
        .iter()
        .next()
        .map(|f| (f.path().to_string(), f.object_store_path()))
        .unwrap();
    let bytes = delta.object_store().get(&file.1).await.unwrap().bytes().await.unwrap();
    let batch = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap().next().unwrap().unwrap();
    let mut fields: Vec<_> = batch.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(arrow::datatypes::Field::new("extra", arrow::datatypes::DataType::Utf8, true)));
    let mut columns = batch.columns().to_vec();
    columns.push(Arc::new(StringArray::from(vec!["kept"; batch.num_rows()])));
    let schema = Arc::new(arrow::datatypes::Schema::new(fields));
    let wide = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
    let mut bytes = Vec::new();
    let properties = encode::properties(&[], &spec, &world.config, &schema).unwrap();
    let mut parquet = parquet::arrow::ArrowWriter::try_new(&mut bytes, schema, Some(properties)).unwrap();
    parquet.write(&wide).unwrap();
    parquet.close().unwrap();
    let size = bytes.len();
    let path = world.dir.path().join("tables/logs").join(&file.0);
    std::fs::write(path, bytes).unwrap();
    // The commits say so.
    for version in 0..=2 {
        let path = world.dir.path().join(format!("tables/logs/_delta_log/{version:020}.json"));
        let text = std::fs::read_to_string(&path).unwrap();
        let extra = r#"{\"name\":\"extra\",\"type\":\"string\",\"nullable\":true,\"metadata\":{}},{\"name\":\"date\""#;
        let mut text = text.replace(r#"{\"name\":\"date\""#, extra);
        if text.contains(&file.0) {
            let at = text.find(&file.0).unwrap();
            let from = at + text[at..].find(r#""size":"#).unwrap() + 7;
            let to = from + text[from..].find(',').unwrap();
            text.replace_range(from..to, &size.to_string());
        }
        std::fs::write(&path, text).unwrap();
    }
    writer
}

async fn compact_wide(world: &World) {
    let compacted = compact(world).await;
    assert_eq!((compacted.merged_files, compacted.rows), (2, 6));
}

/// Writers, compactors, retention, vacuum and history at once, on a store that fails; readers meanwhile see every row once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_runs_beside_it_the_table_is_the_log() {
    for seed in 0..4 {
        let mut world = World::new(2);
        world.config.compaction_interval_ms = 1;
        world.config.upkeep_interval_ms = 20;
        world.config.checkpoint_every = 7;
        let writer = world.start();
        writer.flush().await.unwrap();
        world.append(0, 4);
        writer.flush().await.unwrap();
        world.faults.chaos(seed, 0.1);
        let shutdown = CancellationToken::new();
        let other = {
            let (mut maintainer, stop) = (world.maintainer(logs_table()).await, shutdown.clone());
            tokio::spawn(async move {
                while !stop.is_cancelled() {
                    // It may fail as the store does.
                    drop(maintainer.compact(Eagerness::Everything).await);
                    drop(maintainer.vacuum().await);
                    drop(maintainer.clean_history().await);
                    tokio::task::yield_now().await;
                }
            })
        };
        let mut appended = 4;
        for i in 0..25 {
            world.append(i % 2, 4);
            appended += 4;
            let status = writer.flush().await.unwrap();
            let seen = world.identities("logs").await;
            assert!(seen.windows(2).all(|pair| pair[0] != pair[1]), "seed {seed}: a row twice");
            assert_eq!(seen.len(), appended, "seed {seed}, version {:?}", status.version);
        }
        shutdown.cancel();
        other.await.unwrap();
        world.faults.heal();
        assert_eq!(world.assert_clean().await, appended as u64, "seed {seed}");
    }
}

/// Killed at each put that a merge makes: what is left is the table as it was, or as it was to be, and the next one goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_anywhere_in_a_merge() {
    for (part, written) in [
        ("tenant=", false),
        ("_delta_log/00000000000000000009.json", false),
        ("_delta_log/00000000000000000009.json", true),
    ] {
        let world = world(2);
        let writer = written_and_stopped(&world).await;
        let before = world.identities("logs").await;
        let gate = Arc::new(Semaphore::new(0));
        let fault = if written { Fault::LateLostReply(Arc::clone(&gate)) } else { Fault::Hold(Arc::clone(&gate)) };
        let puts = world.faults.puts(part);
        world.faults.inject(part, 1, fault);
        let mut maintainer = world.maintainer(logs_table()).await;
        let killed = tokio::spawn(async move { maintainer.compact(Eagerness::Everything).await });
        eventually("the put is on its way", async || world.faults.puts(part) > puts).await;
        let landed = async || world.delta("logs").await.version() == Some(9);
        if written {
            eventually("it is written", landed).await;
        }
        killed.abort();
        drop(killed.await);
        world.faults.heal();
        assert_eq!(world.identities("logs").await, before, "{part}");
        world.assert_clean().await;
        let compacted = compact(&world).await;
        assert_eq!(compacted.merged_files, if written { 0 } else { 8 }, "{part}");
        assert_eq!(world.identities("logs").await, before, "{part}");
        // What was left behind is swept once it is old.
        world.clock.advance_ms(world.config.sweep_age_ms as i64 + 60_000);
        world.maintainer(logs_table()).await.vacuum().await.unwrap();
        assert_eq!(world.parquet_files(), 1, "{part}");
        world.assert_clean().await;
        drop(writer);
    }
}

async fn written_and_stopped(world: &World) -> TableHandle {
    let writer = written(world, 8).await;
    writer.abort();
    writer
}
