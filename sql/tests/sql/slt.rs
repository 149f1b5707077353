//! The `.slt` files: queries and their answers over fixed data. Where the data lies must not matter, so each file runs over the
//! same rows in the log, in tables, and split between them.

use std::path::Path;

use arrow::array::{Array, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use futures::TryStreamExt;
use highwater_sql::{Engine, SqlError};
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner};

use crate::fixture::small;

/// Where the rows lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Log,
    Split,
    Tables,
}

struct Database {
    engine: Engine,
}

#[async_trait]
impl AsyncDB for Database {
    type Error = SqlError;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, SqlError> {
        let result = self.engine.query("default", sql).await?;
        let types = vec![DefaultColumnType::Any; result.schema().fields().len()];
        let batches: Vec<RecordBatch> = result.try_collect().await?;
        Ok(DBOutput::Rows { types, rows: batches.iter().flat_map(rows).collect() })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &'static str {
        "highwater"
    }
}

fn rows(batch: &RecordBatch) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<_> = batch.columns().iter().map(|c| (c, ArrayFormatter::try_new(c, &options).unwrap())).collect();
    let cell = |(column, formatter): &(&arrow::array::ArrayRef, ArrayFormatter<'_>), row| {
        let text = formatter.value(row).to_string();
        if text.is_empty() && column.is_valid(row) { "(empty)".to_string() } else { text }
    };
    (0..batch.num_rows()).map(|row| columns.iter().map(|c| cell(c, row)).collect()).collect()
}

async fn run(place: Place) {
    let fixture = crate::fixture::sample(place == Place::Log, place == Place::Tables, small()).await;
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql/slt");
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 5, "the .slt files are missing");
    for file in files {
        let engine = fixture.engine.clone();
        let mut runner = Runner::new(|| async { Ok(Database { engine: engine.clone() }) });
        if let Err(error) = runner.run_file_async(&file).await {
            panic!("rows in {place:?}: {}", error.display(false));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_the_log() {
    run(Place::Log).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tables() {
    run(Place::Tables).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_both() {
    run(Place::Split).await;
}
