//! A rollup as it runs: expressions, schemas and windows, checked. The [planner](super::planner) makes it from SQL.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use highwater_pipeline::data::{identity, logs, metrics, spans, time};
use highwater_pipeline::functions::tumble_start_us;
use highwater_pipeline::runtime::ProcessorError;
use highwater_pipeline::tables::WINDOW_START_COLUMN;

use super::config::{LatePolicy, RollupConfig};
use super::planner;
use super::windows::Windows;
use crate::error::ProcessorsError;

/// In partials: how many rows went into a group.
pub(super) const ROWS: &str = "_rows";

/// Of the identity columns those that a rollup over a rollup sees.
const READ_IDENTITY: [&str; 3] = [identity::PARTITION, identity::OFFSET, identity::ROW];

/// Which topic a rollup reads, directly or through the rollups that it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// Topic `logs`.
    Logs,
    /// Topic `metrics`.
    Metrics,
    /// Topic `spans`.
    Spans,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Logs, Self::Metrics, Self::Spans];

    /// Name of the topic and of the table.
    pub fn topic(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Metrics => "metrics",
            Self::Spans => "spans",
        }
    }

    /// Its table schema, identity included.
    pub fn schema(self) -> SchemaRef {
        match self {
            Self::Logs => logs::schema(),
            Self::Metrics => metrics::schema(),
            Self::Spans => spans::schema(),
        }
    }
}

/// One aggregate of a rollup.
#[derive(Debug, Clone)]
pub(super) struct PlannedAggregate {
    pub(super) function: Arc<AggregateFunctionExpr>,
    pub(super) arguments: Vec<Arc<dyn PhysicalExpr>>,
    pub(super) filter: Option<Arc<dyn PhysicalExpr>>,
    /// Number of columns of its state.
    pub(super) state_columns: usize,
}

/// A rollup, planned and checked. Cheap to share; holds no state.
#[derive(Debug)]
pub struct RollupPlan {
    pub(super) name: Arc<str>,
    pub(super) topic: Arc<str>,
    /// The query, as it was written.
    pub(super) sql: Arc<str>,
    pub(super) source: Source,
    /// The rollup whose rows it reads, where it reads one.
    pub(super) upstream: Option<Arc<RollupPlan>>,
    pub(super) windows: Windows,
    pub(super) lateness_us: i64,
    /// What becomes of rows whose window is closed. No part of the definition either.
    pub(super) late: LatePolicy,
    /// How long the partials of a closed window are kept, in append time. No part of the definition: state means the same with another.
    pub(super) horizon_us: i64,
    /// How long its table keeps rows; nothing is said where it is not. No part of the definition either.
    pub(super) retention_ms: Option<i64>,
    /// Whether it takes in the stored rows when it is new or edited. No part of the definition either.
    pub(super) backfill: bool,
    pub(super) definition: u64,
    /// WHERE.
    pub(super) filter: Option<Arc<dyn PhysicalExpr>>,
    /// GROUP BY without the window and the tenant.
    pub(super) keys: Vec<Arc<dyn PhysicalExpr>>,
    /// Those of the query; then, for sessions, the first and the last time of their rows ([`SESSION_BOUNDS`]).
    pub(super) aggregates: Vec<PlannedAggregate>,
    /// tenant, keys.
    pub(super) group_schema: SchemaRef,
    /// window_start, tenant, keys, states, _rows.
    pub(super) partial_schema: SchemaRef,
    /// What HAVING and SELECT are evaluated over: GROUP BY expressions, aggregates.
    pub(super) aggregated_schema: SchemaRef,
    /// For each GROUP BY expression, where it comes from.
    pub(super) group_columns: Vec<GroupColumn>,
    pub(super) having: Option<Arc<dyn PhysicalExpr>>,
    /// SELECT, without the columns every rollup has.
    pub(super) select: Vec<Arc<dyn PhysicalExpr>>,
    pub(super) output_schema: SchemaRef,
}

/// Number of aggregates behind the query's own that say from when to when a session's rows are.
pub(super) const SESSION_BOUNDS: usize = 2;

/// Where a GROUP BY expression comes from at close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GroupColumn {
    /// The window's start.
    Window,
    /// The tenant, named explicitly.
    Tenant,
    /// Key with this index.
    Key(usize),
}

impl RollupPlan {
    /// Plans a rollup over a topic, or says why it cannot be one.
    pub fn new(config: &RollupConfig) -> Result<Self, ProcessorsError> {
        planner::plan(config, &[])
    }

    /// Plans a rollup over a topic or one of these rollups, or says why it cannot be one.
    pub fn over(config: &RollupConfig, rollups: &[Arc<Self>]) -> Result<Self, ProcessorsError> {
        planner::plan(config, rollups)
    }

    /// How long its table keeps rows, where it says so.
    pub fn retention_ms(&self) -> Option<i64> {
        self.retention_ms
    }

    /// Name of the rollup and of its table.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Topic of its rows, `rollup.<name>`.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The query, as it was written.
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// How long a closed window can still be corrected, in microseconds of append time.
    pub(crate) fn horizon_us(&self) -> i64 {
        self.horizon_us
    }

    /// The topic that its rows come from: the one it reads, or the one that the rollup it reads comes from.
    pub fn source(&self) -> Source {
        self.source
    }

    /// The rollup whose rows it reads, where it reads one.
    pub fn upstream(&self) -> Option<&Arc<Self>> {
        self.upstream.as_ref()
    }

    /// Whether it takes in what was stored before it began. One over a rollup takes in what that one closes.
    pub(super) fn is_filled(&self) -> bool {
        self.backfill && self.upstream.is_none()
    }

    /// Whether it is the rollup of this name, or reads it, directly or through others.
    pub(super) fn stands_on(&self, name: &str) -> bool {
        *self.name == *name || self.upstream.as_ref().is_some_and(|upstream| upstream.stands_on(name))
    }

    /// The topic that it reads.
    pub fn input(&self) -> &str {
        self.upstream.as_ref().map_or_else(|| self.source.topic(), |upstream| &upstream.topic)
    }

    /// The column of its input that has a row's event time.
    pub(super) fn time_column(&self) -> &'static str {
        if self.upstream.is_some() { WINDOW_START_COLUMN } else { time::COLUMN }
    }

    /// Width of its windows, in microseconds; of sessions, the gap that ends them.
    pub fn width_us(&self) -> i64 {
        match self.windows {
            Windows::Fixed { size_us, .. } => size_us,
            Windows::Session { gap_us, .. } => gap_us,
        }
    }

    /// From one window's start to the next, in microseconds. `None` for sessions, which begin with their first row.
    pub fn slide_us(&self) -> Option<i64> {
        match self.windows {
            Windows::Fixed { slide_us, .. } => Some(slide_us),
            Windows::Session { .. } => None,
        }
    }

    /// Hash of everything that gives its state a meaning.
    pub fn definition(&self) -> u64 {
        self.definition
    }

    /// Its rows on the wire: the query's columns, `window_start`, `window_end`, `_revision`, `tenant`.
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.output_schema)
    }

    /// Its rows as those who read it have them: [`Self::output_schema`] and what tells rows of one window apart, in the order of its table.
    pub(super) fn read_schema(&self) -> SchemaRef {
        let mut fields: Vec<FieldRef> = self.output_schema.fields().iter().map(Arc::clone).collect();
        fields.extend(identity::fields().into_iter().filter(|f| READ_IDENTITY.contains(&f.name().as_str())));
        Arc::new(Schema::new(fields))
    }

    /// Its rows as a table's: [`Self::output_schema`] and the row identity.
    pub fn table_schema(&self) -> SchemaRef {
        let mut fields: Vec<FieldRef> = self.output_schema.fields().iter().map(Arc::clone).collect();
        fields.extend(identity::fields());
        Arc::new(Schema::new(fields))
    }

    /// The watermark at which stage 1 passes a pane's partials on.
    pub(super) fn due_us(&self, pane_us: i64) -> i64 {
        self.windows.due_us(pane_us).saturating_add(self.lateness_us)
    }

    /// The watermark at which a fixed window closes: its end plus the lateness. Over a rollup it is the watermark at which that one has closed the
    /// last window that begins in this one, plus the lateness: one line of time for all, that of the topic.
    pub(crate) fn closes_us(&self, window_start_us: i64) -> i64 {
        let end_us = window_start_us.saturating_add(self.width_us());
        let complete_us = match &self.upstream {
            Some(upstream) => upstream.closes_us(upstream.last_start_before(end_us)),
            None => end_us,
        };
        complete_us.saturating_add(self.lateness_us)
    }

    /// The start of the last fixed window that begins before this instant.
    fn last_start_before(&self, instant_us: i64) -> i64 {
        tumble_start_us(instant_us.saturating_sub(1), self.slide_us().unwrap_or(1))
    }

    /// The watermark at which a session closes whose last row is at this instant.
    pub(super) fn session_closes_us(&self, last_us: i64) -> i64 {
        self.windows.session_over_us(last_us).saturating_add(self.lateness_us)
    }

    /// The end of the last fixed window that is closed at this watermark.
    pub(super) fn closed_until_us(&self, watermark_us: i64) -> i64 {
        let Windows::Fixed { slide_us, size_us, .. } = self.windows else { return i64::MIN };
        let before_us = watermark_us.saturating_sub(self.lateness_us).saturating_sub(size_us);
        let mut start_us = tumble_start_us(before_us, slide_us);
        // Over a rollup a window may have to wait longer than its lateness: back by what is missing, which is soon enough.
        while let missing_us @ 1.. = self.closes_us(start_us).saturating_sub(watermark_us) {
            let slides = missing_us.saturating_sub(1) / slide_us;
            let earlier_us = start_us.saturating_sub(slides.saturating_add(1).saturating_mul(slide_us));
            if earlier_us == start_us {
                break;
            }
            start_us = earlier_us;
        }
        // A step may have been one too many, as the windows below are not everywhere equally far from this one's end.
        while self.upstream.is_some() && self.closes_us(start_us.saturating_add(slide_us)) <= watermark_us {
            start_us = start_us.saturating_add(slide_us);
        }
        start_us.saturating_add(size_us)
    }

    /// About what a group takes in stage 1.
    pub(super) fn group_size_bytes(&self) -> usize {
        let column = |field: &FieldRef| match field.data_type() {
            DataType::Binary => 4_096,
            DataType::List(_) => 1_024,
            DataType::Utf8 => 128,
            _ => 24,
        };
        self.partial_schema.fields().iter().map(column).sum()
    }

    /// For an error that ends a task of this rollup.
    pub(super) fn cannot_fold(&self, error: DataFusionError) -> ProcessorError {
        ProcessorError::caused(format!("rollup {} cannot be folded", self.name), error)
    }
}
