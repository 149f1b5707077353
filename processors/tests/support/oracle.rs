//! What rollups must come to: the same SQL over all rows at once; and what they came to.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::util::display::array_value_to_string;
use datafusion::catalog::MemTable;
use datafusion::prelude::SessionContext;
use highwater_pipeline::data::{Control, Decoded, Decoder, RowKind};
use highwater_pipeline::functions;
use highwater_pipeline::tables::Superseded;
use highwater_processors::rollups::RollupPlan;

use super::House;

/// Rows as lines, in no order that matters.
pub fn text(batches: &[RecordBatch], columns: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let values = columns.iter().map(|name| {
                let column = batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name}"));
                let value = array_value_to_string(column, row).unwrap();
                // Sums of floats depend on their order in the last bits.
                value.parse::<f64>().ok().filter(|_| value.contains('.')).map_or(value, |f| format!("{f:.9}"))
            });
            lines.push(values.collect::<Vec<_>>().join(" "));
        }
    }
    lines.sort();
    lines
}

/// Whether lines are the same, floats to 1e-9 of their size: sums depend on their order in the last bits.
pub fn same(left: &[String], right: &[String]) -> bool {
    let close = |(a, b): (&str, &str)| {
        let (Ok(x), Ok(y)) = (a.parse::<f64>(), b.parse::<f64>()) else { return a == b };
        a == b || a.contains('.') && b.contains('.') && (x - y).abs() <= 2e-9 * x.abs().max(1.0)
    };
    let line = |(a, b): (&String, &String)| {
        a.split(' ').count() == b.split(' ').count() && a.split(' ').zip(b.split(' ')).all(close)
    };
    left.len() == right.len() && left.iter().zip(right).all(line)
}

/// What DataFusion answers over all rows at once.
pub fn batch_answer(house: &House, partitions: i32, sql: &str) -> Vec<RecordBatch> {
    let decoder = Decoder::new(RowKind::Logs);
    let mut batches = Vec::new();
    for partition in 0..partitions {
        for record in house.records("logs", partition) {
            match decoder.decode(partition, record) {
                Decoded::Rows { batch, refused } => {
                    assert!(refused.is_empty(), "{refused:?}");
                    batches.push(batch);
                }
                Decoded::Control(_) => {}
                Decoded::Undecodable(refused) => panic!("{refused:?}"),
            }
        }
    }
    answer_over("logs", decoder.schema(), batches, sql)
}

/// What DataFusion answers over these rows as a table.
pub fn answer_over(table: &str, schema: SchemaRef, batches: Vec<RecordBatch>, sql: &str) -> Vec<RecordBatch> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut context = SessionContext::new();
        functions::register(&mut context).unwrap();
        for rule in functions::analyzer_rules(functions::Windows::Unfolded) {
            context.add_analyzer_rule(rule);
        }
        let rows = MemTable::try_new(schema, vec![batches]).unwrap();
        context.register_table(table, Arc::new(rows)).unwrap();
        context.sql(sql).await.unwrap().collect().await.unwrap()
    })
}

/// The rows of a rollup that hold: of each window the newest revision, as its table has them.
pub fn newest(house: &House, plan: &RollupPlan, partitions: i32) -> Vec<RecordBatch> {
    let decoder = Decoder::new(RowKind::Arrow(plan.table_schema()));
    let mut superseded = Superseded::default();
    let mut batches = Vec::new();
    for partition in 0..partitions {
        for record in house.records(plan.topic(), partition) {
            match decoder.decode(partition, record) {
                Decoded::Rows { batch, .. } => batches.push(batch),
                Decoded::Control(Control::Superseded { window_start_us, .. }) => {
                    superseded.add(partition, window_start_us, record.offset);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    batches.iter().map(|batch| superseded.filter(plan.name(), batch).unwrap()).collect()
}

/// The sum of a column of whole numbers.
pub fn sum(batch: &RecordBatch, column: &str) -> i64 {
    batch.column_by_name(column).unwrap().as_primitive::<Int64Type>().values().iter().sum()
}
