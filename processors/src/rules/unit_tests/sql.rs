//! Tests of rules in SQL: lines and samples that are written out go through the tasks of rollups and rules, as in a backtest.

use std::collections::BTreeMap;

use arrow::compute::{concat_batches, lexsort_to_indices, take_record_batch};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use highwater_pipeline::data::alerts::{State, Transition};
use highwater_pipeline::data::{Decoded, Decoder, RowKind, time};
use highwater_pipeline::log::StoredRecord;
use highwater_promql::parser::SequenceValue;
use highwater_promql::{Labels, METRIC_NAME, is_stale};
use serde_json::json;

use super::super::file::RuleFile;
use super::compare::ShownAlert;
use super::file::{InputLog, Test};
use crate::backtest::Backtest;
use crate::config::ProcessorsConfig;
use crate::rollups::{RollupConfig, Source};

/// The rules in SQL among these; `None` where there are none.
pub(super) fn only_sql(rules: &[RuleFile]) -> Option<Vec<RuleFile>> {
    let mut files = rules.to_vec();
    for group in files.iter_mut().flat_map(|file| &mut file.groups) {
        group.rules.retain(|rule| !rule.is_promql());
    }
    let has_rules = |file: &RuleFile| file.groups.iter().any(|group| !group.rules.is_empty());
    files.iter().any(has_rules).then_some(files)
}

/// What rules in SQL have said.
pub(super) struct Played {
    transitions: Vec<Transition>,
}

impl Played {
    /// Plays a test's lines and samples, one step each `interval_ms` from `start_ms` on, up to `until_ms`.
    pub(super) fn play(
        rules: Vec<RuleFile>,
        rollups: &[RollupConfig],
        test: &Test,
        start_ms: i64,
        interval_ms: i64,
        until_ms: i64,
    ) -> Result<Self, String> {
        let config = ProcessorsConfig {
            rollups: rollups.to_vec(),
            rule_files: rules,
            external_labels: test.external_labels.clone(),
            external_url: test.external_url.clone(),
            partitions: 1,
            has_history: false,
            rule_partitions: 1,
        };
        let mut backtest = Backtest::new(&config).map_err(|e| e.to_string())?;
        let at = |step: usize| start_ms + i64::try_from(step).unwrap_or(i64::MAX).saturating_mul(interval_ms);
        let mut records: BTreeMap<Source, Vec<(i64, serde_json::Value)>> = BTreeMap::new();
        for log in &test.input_logs {
            let logs = records.entry(Source::Logs).or_default();
            for (step, count) in log.counts()?.into_iter().enumerate() {
                for _ in 0..count {
                    let mut line = log.line.clone();
                    line.insert("timestamp".to_owned(), time::format(at(step) * 1_000).into());
                    logs.push((at(step), line.into()));
                }
            }
        }
        for series in &test.input_series {
            let (labels, values) = series.parse()?;
            let samples = records.entry(Source::Metrics).or_default();
            for (step, value) in values.iter().enumerate() {
                let SequenceValue::Float(value) = value else { continue };
                samples.push((at(step), sample(&labels, at(step), *value)));
            }
        }
        let end_us = until_ms.saturating_mul(1_000).saturating_add(backtest.settle_us());
        let mut tables = Vec::new();
        for (source, mut records) in records {
            records.sort_by_key(|(at_ms, _)| *at_ms);
            records.retain(|(at_ms, _)| at_ms * 1_000 < end_us);
            if !records.is_empty() {
                tables.push((source, rows(source, &records)?));
            }
        }
        backtest.slice(&tables, end_us).map_err(|e| e.to_string())?;
        Ok(Self { transitions: backtest.take_transitions() })
    }

    /// The alerts of this name that fire at a time.
    pub(super) fn firing_at(&self, alertname: &str, at_ms: i64) -> Vec<ShownAlert> {
        let mut newest: BTreeMap<&str, &Transition> = BTreeMap::new();
        for one in self.transitions.iter().filter(|one| one.timestamp_us <= at_ms.saturating_mul(1_000)) {
            newest.insert(&one.fingerprint, one);
        }
        let firing = newest.into_values().filter(|one| one.alertname == alertname && one.state == State::Firing);
        let shown = firing.map(|one| ShownAlert {
            labels: Labels::from_pairs(one.labels.iter()),
            annotations: one.annotations.clone(),
        });
        shown.collect()
    }
}

impl InputLog {
    /// How many lines come at each step.
    fn counts(&self) -> Result<Vec<usize>, String> {
        let (_, values) = super::file::InputSeries { series: "{}".to_owned(), values: self.values.clone() }
            .parse()
            .map_err(|e| format!("input_logs: values {:?}: {e}", self.values))?;
        let wrong = || format!("input_logs: values {:?}: how many lines come at a step is a whole number", self.values);
        let count = |value: &SequenceValue| match value {
            SequenceValue::Omitted => Ok(0),
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "checked to be whole and small"
            )]
            SequenceValue::Float(count) if count.fract() == 0.0 && (0.0..1e6).contains(count) => Ok(*count as usize),
            _ => Err(wrong()),
        };
        values.iter().map(count).collect()
    }
}

fn sample(labels: &Labels, at_ms: i64, value: f64) -> serde_json::Value {
    let others: BTreeMap<&str, &str> = labels.iter().filter(|(name, _)| *name != METRIC_NAME).collect();
    let mut sample = json!({"name": labels.name(), "timestamp": time::format(at_ms * 1_000), "labels": others});
    if is_stale(value) {
        sample["stale"] = true.into();
    } else if value.is_finite() {
        sample["value"] = value.into();
    } else {
        sample["value"] = highwater_promql::format_float(value).into();
    }
    sample
}

/// Records as the rows of a table, each appended at its own time.
fn rows(source: Source, records: &[(i64, serde_json::Value)]) -> Result<RecordBatch, String> {
    let kind = match source {
        Source::Logs => RowKind::Logs,
        Source::Metrics => RowKind::Metrics,
        Source::Spans => RowKind::Spans,
    };
    let decoder = Decoder::new(kind);
    let mut batches = Vec::new();
    for (offset, (at_ms, value)) in (0..).zip(records) {
        let value = Some(Bytes::from(value.to_string()));
        let record = StoredRecord { offset, timestamp_ms: *at_ms, key: None, value, headers: Vec::new() };
        match decoder.decode(0, &record) {
            Decoded::Rows { batch, refused } if refused.is_empty() => batches.push(batch),
            Decoded::Rows { refused, .. } => {
                let reasons: Vec<&str> = refused.iter().map(|refused| refused.reason.as_str()).collect();
                return Err(format!("{}: {}", source.topic(), reasons.join(", ")));
            }
            Decoded::Undecodable(refused) => return Err(format!("{}: {}", source.topic(), refused.reason)),
            Decoded::Control(_) => {}
        }
    }
    let failed = |error: arrow::error::ArrowError| error.to_string();
    let all = concat_batches(&source.schema(), &batches).map_err(failed)?;
    let times = all.column_by_name(time::COLUMN).map(std::sync::Arc::clone);
    let by: Vec<_> = times.into_iter().map(|values| arrow::compute::SortColumn { values, options: None }).collect();
    let order = lexsort_to_indices(&by, None).map_err(failed)?;
    take_record_batch(&all, &order).map_err(failed)
}
