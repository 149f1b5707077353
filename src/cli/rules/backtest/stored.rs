//! Stored rows, slice by slice of event time, into backtests.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{Int64Type, SchemaRef};
use highwater_processors::backtest::{Backtest, Reads};
use highwater_processors::rollups::Source as Table;

use crate::cli::sql::Source;
use crate::error::Error;

/// Width of the first slice.
const FIRST_SLICE_US: i64 = 10 * 60 * 1_000_000;
const MIN_SLICE_US: i64 = 1_000_000;
const MAX_SLICE_US: i64 = 24 * 60 * 60 * 1_000_000;
/// Slices grow while they have fewer rows, and shrink where they have more.
const FEW_ROWS: i64 = 50_000;
const MANY_ROWS: i64 = 400_000;
/// What rules write besides recorded metrics.
const ALERT_SERIES: [&str; 2] = ["ALERTS", "ALERTS_FOR_STATE"];

/// What some backtests look at.
pub(super) struct Stored<'a> {
    source: &'a Source,
    reads: Vec<Reads>,
}

impl<'a> Stored<'a> {
    /// Everything that any of these looks at.
    pub(super) fn new(source: &'a Source, tests: &[Backtest]) -> Self {
        let mut reads: BTreeMap<Table, Reads> = BTreeMap::new();
        for one in tests.iter().flat_map(Backtest::reads) {
            match reads.get_mut(&one.source) {
                None => {
                    reads.insert(one.source, one.clone());
                }
                Some(all) => {
                    all.names = all.names.take().zip(one.names.clone()).map(|(a, b)| &a | &b);
                    // What one of them records may be missing to the other: it is read then, and what is recorded anew comes later and wins.
                    all.recorded = all.recorded.take().zip(one.recorded.clone()).map(|(a, b)| &a & &b);
                }
            }
        }
        Self { source, reads: reads.into_values().collect() }
    }

    /// Plays what is stored from before `from_us` to after `to_us`.
    pub(super) async fn play(&self, tests: &mut [Backtest], from_us: i64, to_us: i64) -> Result<(), Error> {
        let before_us = tests.iter().map(Backtest::warmup_us).max().unwrap_or(0);
        let behind_us = tests.iter().map(Backtest::settle_us).max().unwrap_or(0);
        let end_us = to_us.saturating_add(behind_us);
        let mut at_us = from_us.saturating_sub(before_us);
        let mut width_us = FIRST_SLICE_US;
        let mut is_gap = true;
        while at_us < end_us {
            if is_gap {
                // Before the first row there is nothing, behind the last one only silence.
                match self.first(at_us, end_us).await? {
                    Some(first_us) => at_us = first_us,
                    None => break,
                }
            }
            while width_us > FIRST_SLICE_US && self.count(at_us, at_us.saturating_add(width_us)).await? > MANY_ROWS {
                width_us /= 2;
            }
            let until_us = at_us.saturating_add(width_us).min(end_us);
            let mut tables = Vec::with_capacity(self.reads.len());
            for reads in &self.reads {
                tables.push((reads.source, self.rows(reads, at_us, until_us).await?));
            }
            for test in &mut *tests {
                test.slice(&tables, until_us).map_err(|error| Error::failed("backtest", error))?;
            }
            let rows: usize = tables.iter().map(|(_, batch)| batch.num_rows()).sum();
            is_gap = rows == 0;
            match i64::try_from(rows).unwrap_or(i64::MAX) {
                rows if rows < FEW_ROWS => width_us = (width_us * 2).min(MAX_SLICE_US),
                rows if rows > MANY_ROWS => width_us = (width_us / 2).max(MIN_SLICE_US),
                _ => {}
            }
            at_us = until_us;
        }
        for test in tests {
            test.slice(&[], end_us).map_err(|error| Error::failed("backtest", error))?;
        }
        Ok(())
    }

    /// Time of the first row there is.
    async fn first(&self, from_us: i64, until_us: i64) -> Result<Option<i64>, Error> {
        let mut first = None;
        for reads in &self.reads {
            let sql = format!("SELECT CAST(min(timestamp) AS BIGINT) {}", from(reads, from_us, until_us));
            let found = self.number(&sql).await?;
            first = first.into_iter().chain(found).min();
        }
        Ok(first)
    }

    async fn count(&self, from_us: i64, until_us: i64) -> Result<i64, Error> {
        let mut count = 0;
        for reads in &self.reads {
            let sql = format!("SELECT CAST(count(*) AS BIGINT) {}", from(reads, from_us, until_us));
            count += self.number(&sql).await?.unwrap_or(0);
        }
        Ok(count)
    }

    /// The one number that a query gives.
    async fn number(&self, sql: &str) -> Result<Option<i64>, Error> {
        let mut rows = self.source.ask(sql).await?;
        let mut number = None;
        while let Some(batch) = rows.next().await? {
            let column = batch.column(0).as_primitive_opt::<Int64Type>();
            number = number.or(column.and_then(|numbers| numbers.iter().next().flatten()));
        }
        Ok(number)
    }

    /// Rows in the order of their time.
    async fn rows(&self, reads: &Reads, from_us: i64, until_us: i64) -> Result<RecordBatch, Error> {
        let schema = reads.source.schema();
        let columns: Vec<String> = schema.fields().iter().map(|field| format!("\"{}\"", field.name())).collect();
        let sql = format!(
            "SELECT {} {} ORDER BY timestamp, _partition, _offset, _row",
            columns.join(", "),
            from(reads, from_us, until_us)
        );
        let mut rows = self.source.ask(&sql).await?;
        let mut batches = Vec::new();
        while let Some(batch) = rows.next().await? {
            let columns =
                batch.columns().iter().zip(schema.fields()).map(|(column, field)| cast(column, field.data_type()));
            let columns = columns.collect::<Result<Vec<_>, _>>();
            let batch = columns.and_then(|columns| RecordBatch::try_new(SchemaRef::clone(&schema), columns));
            batches.push(batch.map_err(|error| Error::failed(&format!("reading {}", reads.source.topic()), error))?);
        }
        concat_batches(&schema, &batches).map_err(|error| Error::failed("reading stored rows", error))
    }
}

fn from(reads: &Reads, from_us: i64, until_us: i64) -> String {
    let instant = |us: i64| format!("arrow_cast({us}, 'Timestamp(Microsecond, Some(\"UTC\"))')");
    let list = |names: &BTreeSet<String>| {
        let quoted = names.iter().map(|name| format!("'{}'", name.replace('\'', "''")));
        quoted.collect::<Vec<_>>().join(", ")
    };
    let table = reads.source.topic();
    let mut sql = format!("FROM {table} WHERE timestamp >= {} AND timestamp < {}", instant(from_us), instant(until_us));
    if let Some(names) = &reads.names {
        if names.is_empty() {
            return sql + " AND false";
        }
        sql.push_str(&format!(" AND name IN ({})", list(names)));
    }
    if reads.source == Table::Metrics {
        match &reads.recorded {
            None => sql.push_str(" AND _topic = 'metrics'"),
            Some(own) => {
                let mut own = own.clone();
                own.extend(ALERT_SERIES.map(str::to_owned));
                sql.push_str(&format!(" AND (_topic = 'metrics' OR name NOT IN ({}))", list(&own)));
            }
        }
    }
    sql
}
