//! A rollup's table holds the newest revision of each row only, whoever reads it.

use arrow::array::{ArrayRef, Int32Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, TimestampMicrosecondType};
use highwater_pipeline::data::{Control, content_type, identity, ipc, time};
use highwater_pipeline::log::Record;
use highwater_pipeline::tables::rollup_table;

use super::*;
use crate::testing::clock_record;

const MINUTE: i64 = 60_000_000;
const TOPIC: &str = "rollup.r";

fn world(partitions: i32) -> World {
    World { log: MemoryLog::with_topic(TOPIC, partitions), ..World::new(partitions) }
}

pub(super) fn table() -> TableSpec {
    let mut fields: Vec<FieldRef> = rows(0, 0, &[]).schema().fields().iter().map(Arc::clone).collect();
    fields.extend(identity::fields());
    rollup_table("r", Arc::new(Schema::new(fields))).unwrap()
}

/// Rows of a window as a closing has them: service and count.
fn rows(window: i64, revision: i32, groups: &[(&str, i64)]) -> RecordBatch {
    let count = groups.len();
    let field = |name, data_type| Field::new(name, data_type, false);
    let schema = Schema::new(vec![
        field("service", DataType::Utf8),
        field("n", DataType::Int64),
        field("window_start", time::data_type()),
        field("window_end", time::data_type()),
        field("_revision", DataType::Int32),
        field("tenant", DataType::Utf8),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(groups.iter().map(|g| Some(g.0)).collect::<StringArray>()),
        Arc::new(groups.iter().map(|g| Some(g.1)).collect::<Int64Array>()),
        Arc::new(time::array(vec![DAY + window * MINUTE; count])),
        Arc::new(time::array(vec![DAY + (window + 1) * MINUTE; count])),
        Arc::new(Int32Array::from(vec![revision; count])),
        Arc::new(groups.iter().map(|g| Some(if g.0 == "other" { "acme" } else { "default" })).collect::<StringArray>()),
    ];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

/// Closes a window: minutes since the day began.
pub(super) fn close(world: &World, partition: i32, window: i64, revision: i32, groups: &[(&str, i64)]) {
    if revision > 0 {
        let (source, window_start_us) = (format!("r/{partition}"), DAY + window * MINUTE);
        world.log.push(TOPIC, partition, Control::Superseded { source, window_start_us, revision }.to_record());
    }
    if !groups.is_empty() {
        let value = Some(ipc::encode(&rows(window, revision, groups)).unwrap());
        let headers = vec![content_type::header(content_type::ARROW)];
        world.log.push(TOPIC, partition, Record { value, headers, ..Record::default() });
    }
}

/// What any reader of the table sees: partition, window, revision, service, count.
async fn stored(world: &World) -> Vec<(i32, i64, i32, String, i64)> {
    let mut found = Vec::new();
    for batch in world.read("r").await {
        let column = |name: &str| Arc::clone(batch.column_by_name(name).unwrap());
        let partitions = column("_partition");
        let starts = column("window_start");
        let (revisions, services, counts) = (column("_revision"), column("service"), column("n"));
        found.extend((0..batch.num_rows()).map(|i| {
            (
                partitions.as_primitive::<Int32Type>().value(i),
                (starts.as_primitive::<TimestampMicrosecondType>().value(i) - DAY) / MINUTE,
                revisions.as_primitive::<Int32Type>().value(i),
                services.as_string::<i32>().value(i).to_owned(),
                counts.as_primitive::<Int64Type>().value(i),
            )
        }));
    }
    found.sort();
    found
}

fn row(partition: i32, window: i64, revision: i32, service: &str, count: i64) -> (i32, i64, i32, String, i64) {
    (partition, window, revision, service.to_owned(), count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_closed_again_replaces_its_rows_and_no_others() {
    let world = world(2);
    let writer = world.start_with(table());
    let tomorrow = 24 * 60;
    for partition in 0..2 {
        close(&world, partition, 0, 0, &[("web", 1), ("db", 1), ("other", 1)]);
        close(&world, partition, 1, 0, &[("web", 5)]);
        close(&world, partition, tomorrow, 0, &[("web", 7)]);
    }
    writer.flush().await.unwrap();
    let files = world.parquet_files();
    assert_eq!(files, 3, "two tenants, one of them on two days");
    // One group grows, one vanishes, and so does the other tenant's only one.
    close(&world, 0, 0, 1, &[("web", 2)]);
    let status = writer.flush().await.unwrap();
    assert_eq!(status.version, Some(2), "one commit for all of it");
    let others = [row(0, 1, 0, "web", 5), row(0, tomorrow, 0, "web", 7)];
    let untouched = [
        row(1, 0, 0, "db", 1),
        row(1, 0, 0, "other", 1),
        row(1, 0, 0, "web", 1),
        row(1, 1, 0, "web", 5),
        row(1, tomorrow, 0, "web", 7),
    ];
    let expected = |first: &[(i32, i64, i32, String, i64)]| [first, &others, &untouched].concat();
    assert_eq!(stored(&world).await, expected(&[row(0, 0, 1, "web", 2)]));
    assert_eq!(world.parquet_files(), files + 3, "the file of the new row, and two written anew");
    world.assert_clean().await;

    // Again, and then nothing is left of the window.
    close(&world, 0, 0, 2, &[("web", 3), ("db", 9)]);
    writer.flush().await.unwrap();
    assert_eq!(stored(&world).await, expected(&[row(0, 0, 2, "db", 9), row(0, 0, 2, "web", 3)]));
    close(&world, 0, 0, 3, &[]);
    writer.flush().await.unwrap();
    assert_eq!(stored(&world).await, expected(&[]));
    let commit =
        std::fs::read_to_string(world.dir.path().join("tables/r/_delta_log/00000000000000000004.json")).unwrap();
    assert!(commit.contains(r#""isBlindAppend":false"#) && commit.contains(r#""remove":"#), "{commit}");
    assert!(!commit.contains(r#""add""#), "nothing is left of the file: {commit}");
    world.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_superseded_before_it_is_written_is_never_written() {
    let world = world(1);
    let writer = world.start_with(table());
    close(&world, 0, 0, 0, &[("web", 1)]);
    close(&world, 0, 1, 0, &[("web", 4)]);
    close(&world, 0, 0, 1, &[("web", 2)]);
    world.log.push(TOPIC, 0, clock_record());
    close(&world, 0, 1, 1, &[]);
    writer.flush().await.unwrap();
    assert_eq!(stored(&world).await, [row(0, 0, 1, "web", 2)]);
    assert_eq!(world.parquet_files(), 1);
    assert_eq!(world.assert_clean().await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_that_replace_rows_of_one_file_do_not_undo_each_other() {
    let world = world(2);
    let (a, b) = (world.start_with(table()), world.start_idle(table()));
    for window in 0..8 {
        close(&world, 0, window, 0, &[("web", 0)]);
        close(&world, 1, window, 0, &[("web", 0)]);
    }
    a.flush().await.unwrap();
    a.revoke(&partitions(TOPIC, [1])).await;
    b.assign(&partitions(TOPIC, [1]));
    for revision in 1..=8 {
        // Both of the same files, at once.
        for window in 0..8 {
            close(&world, 0, window, revision, &[("web", i64::from(revision))]);
            close(&world, 1, window, revision, &[("web", i64::from(-revision))]);
        }
        let (one, other) = tokio::join!(a.flush(), b.flush());
        one.unwrap();
        other.unwrap();
        let expected: Vec<_> = [(0, 1), (1, -1)]
            .into_iter()
            .flat_map(|(partition, sign)| {
                (0..8).map(move |window| row(partition, window, revision, "web", sign * i64::from(revision)))
            })
            .collect();
        assert_eq!(stored(&world).await, expected);
        world.assert_clean().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_kept_an_old_revision_is_found_out() {
    let world = world(1);
    let writer = world.start_with(table());
    close(&world, 0, 0, 0, &[("web", 1), ("db", 1)]);
    close(&world, 0, 1, 0, &[("web", 4)]);
    writer.flush().await.unwrap();
    close(&world, 0, 0, 1, &[("web", 2)]);
    writer.flush().await.unwrap();
    world.assert_clean().await;
    // As if the commit had only appended.
    let path = world.dir.path().join("tables/r/_delta_log/00000000000000000002.json");
    let text = std::fs::read_to_string(&path).unwrap();
    // The new row is in the first file added, what is left of the old file in the second.
    let adds: Vec<&str> = text.lines().filter(|line| line.starts_with(r#"{"add""#)).collect();
    assert_eq!(adds.len(), 2);
    let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with(r#"{"remove""#) && *line != adds[1]).collect();
    assert_eq!(kept.len(), text.lines().count() - 2);
    std::fs::write(&path, kept.join("\n")).unwrap();
    let report = world.verify().await.to_string();
    assert!(report.contains("is there in revisions 0 and 1"), "{report}");
    assert!(report.contains("the table has 3 rows, the log 1"), "{report}");
}
