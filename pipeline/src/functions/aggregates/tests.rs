//! What the aggregates mean, in SQL; over one batch and over many that are merged.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, StringArray};
use arrow::record_batch::RecordBatch;
use arrow::util::display::array_value_to_string;
use datafusion::catalog::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::data::time;
use crate::functions;

/// second, value, series, offset, le
type Row = (i64, Option<f64>, i64, i64, &'static str);

fn batch(rows: &[Row]) -> RecordBatch {
    let at: ArrayRef = Arc::new(time::array(rows.iter().map(|r| r.0 * 1_000_000).collect()));
    let value: ArrayRef = Arc::new(rows.iter().map(|r| r.1).collect::<Float64Array>());
    let series: ArrayRef = Arc::new(rows.iter().map(|r| Some(r.2)).collect::<Int64Array>());
    let partition: ArrayRef = Arc::new(Int32Array::from(vec![0; rows.len()]));
    let offset: ArrayRef = Arc::new(rows.iter().map(|r| Some(r.3)).collect::<Int64Array>());
    let le: ArrayRef = Arc::new(rows.iter().map(|r| Some(r.4)).collect::<StringArray>());
    let columns = [
        ("timestamp", at),
        ("value", value),
        ("series_id", series),
        ("_partition", Arc::clone(&partition)),
        ("_offset", offset),
        ("_row", partition),
        ("le", le),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

/// The answer over the rows in one batch, after it has been found the same for each row in a batch of its own and merged, in either order.
async fn answer(rows: &[Row], select: &str) -> Result<String, String> {
    let reversed: Vec<Row> = rows.iter().rev().copied().collect();
    let singles = |rows: &[Row]| rows.chunks(1).map(|row| vec![batch(row)]).collect::<Vec<_>>();
    let mut answers = Vec::new();
    for parts in [vec![vec![batch(rows)]], singles(rows), singles(&reversed)] {
        let config = SessionConfig::new().with_target_partitions(parts.len());
        let mut context = SessionContext::new_with_config(config);
        functions::register(&mut context).unwrap();
        functions::analyzer_rules(functions::Windows::Unfolded).into_iter().for_each(|r| context.add_analyzer_rule(r));
        let table = MemTable::try_new(parts[0][0].schema(), parts).unwrap();
        context.register_table("t", Arc::new(table)).unwrap();
        for group in ["", " GROUP BY series_id % 1"] {
            let sql = format!("SELECT {select} AS answer FROM t{group}");
            let frame = context.sql(&sql).await.map_err(|e| e.to_string())?;
            let batches = frame.collect().await.map_err(|e| e.to_string())?;
            let filled = batches.iter().find(|b| b.num_rows() > 0).unwrap();
            answers.push(array_value_to_string(filled.column(0), 0).unwrap());
        }
    }
    assert!(answers.iter().all(|a| *a == answers[0]), "{select}: {answers:?}");
    Ok(answers.remove(0))
}

const ROWS: [Row; 6] = [
    (10, Some(5.0), 1, 0, "1"),
    (40, Some(2.0), 1, 1, "1"),
    (20, Some(8.0), 1, 2, "1"),
    (10, Some(100.0), 2, 3, "+Inf"),
    (40, Some(130.0), 2, 4, "+Inf"),
    (50, None, 2, 5, "+Inf"),
];

#[tokio::test]
async fn first_and_last_go_by_time_then_by_identity_and_pass_over_null() {
    assert_eq!(answer(&ROWS, "first(value)").await.unwrap(), "5.0");
    assert_eq!(answer(&ROWS, "last(value)").await.unwrap(), "130.0");
    assert_eq!(answer(&ROWS, "last(le, timestamp)").await.unwrap(), "+Inf");
    assert_eq!(answer(&ROWS, "first(value) FILTER (WHERE series_id = 2)").await.unwrap(), "100.0");
    assert_eq!(answer(&ROWS, "last(value) FILTER (WHERE value IS NULL)").await.unwrap(), "");
    assert_eq!(
        answer(&ROWS, "last(series_id, timestamp, 0, 0, 0)").await.unwrap(),
        "2",
        "no identity: the greater value"
    );
}

#[tokio::test]
async fn a_quantile_is_within_one_percent() {
    let rows: Vec<Row> = (1..=200).map(|n| (n, Some(n as f64), 1, n, "1")).collect();
    for (rank, exact) in [(0.0, 1.0), (0.5, 100.0), (0.95, 190.0), (1.0, 200.0)] {
        let value: f64 = answer(&rows, &format!("quantile(value, {rank})")).await.unwrap().parse().unwrap();
        assert!((value - exact).abs() <= 0.01 * exact + 1e-9, "{rank}: {value}");
    }
    assert_eq!(answer(&ROWS, "quantile(value, 1)").await.unwrap(), "130.0", "a whole number is a rank, too");
    assert_eq!(answer(&ROWS, "quantile(value, 0.5) FILTER (WHERE value < 0)").await.unwrap(), "");
    let error = answer(&ROWS, "quantile(value, 95)").await.unwrap_err();
    assert!(error.contains("from 0 to 1"), "{error}");
    let error = answer(&ROWS, "quantile(value, value)").await.unwrap_err();
    assert!(error.contains("must be a constant"), "{error}");
}

#[tokio::test]
async fn the_greatest_and_the_least() {
    assert_eq!(answer(&ROWS, "top_k(value, 2)").await.unwrap(), "[130.0, 100.0]");
    assert_eq!(answer(&ROWS, "bottom_k(value, 3)").await.unwrap(), "[2.0, 5.0, 8.0]");
    assert_eq!(answer(&ROWS, "top_k(le, 4)").await.unwrap(), "[1, 1, 1, +Inf]");
    assert!(answer(&ROWS, "top_k(value, 0)").await.unwrap_err().contains("from 1 to 1000"));
}

#[tokio::test]
async fn counters_grow_and_begin_again() {
    // Series 1 in order: 5, 8, 2 (a reset): 3 + 2 in 30 s. Series 2: 30 in 30 s.
    assert_eq!(answer(&ROWS, "increase(value)").await.unwrap(), "35.0");
    assert_eq!(answer(&ROWS, "increase(value) FILTER (WHERE series_id = 1)").await.unwrap(), "5.0");
    let rate: f64 = answer(&ROWS, "rate(value)").await.unwrap().parse().unwrap();
    assert!((rate - (5.0 / 30.0 + 1.0)).abs() < 1e-12, "{rate}");
    assert_eq!(answer(&ROWS, "increase(value) FILTER (WHERE timestamp < to_timestamp(20))").await.unwrap(), "");
    assert_eq!(
        answer(&ROWS, "increase(value, timestamp, 7)").await.unwrap(),
        "130.0",
        "as one series, the greater of each instant: 100, 8, 130, of which 8 is a reset"
    );
    let twice: Vec<Row> = ROWS.iter().chain(&ROWS).copied().collect();
    assert_eq!(answer(&twice, "increase(value)").await.unwrap(), "35.0", "a sample that came twice counts once");
}

#[tokio::test]
async fn a_histogram_is_the_increase_of_its_buckets() {
    let rows: Vec<Row> = vec![
        (0, Some(10.0), 1, 0, "0.5"),
        (60, Some(20.0), 1, 1, "0.5"),
        (0, Some(10.0), 2, 2, "1.0"),
        (60, Some(30.0), 2, 3, "1"),
        (0, Some(10.0), 3, 4, "+Inf"),
        (60, Some(30.0), 3, 5, "+Inf"),
        (60, Some(30.0), 4, 6, "none"),
    ];
    assert_eq!(answer(&rows, "histogram_quantile(0.75, le, value)").await.unwrap(), "0.75");
    assert_eq!(answer(&rows, "histogram_quantile(0.5, le, value)").await.unwrap(), "0.5");
    assert!(answer(&rows, "histogram_quantile(0.5, value)").await.unwrap_err().contains("labels->>'le'"));
}
