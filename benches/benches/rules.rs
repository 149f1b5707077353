//! Rules: one tick of the rules task. A second's samples of all series go in, and every rule is evaluated. Rules look at ten series each, of one metric;
//! half of them at the newest sample, half at a range of a minute. Once with samples, and once in silence.
//!
//! `cargo bench -p highwater-benches --bench rules`. Throughput is in evaluations of a rule over a series.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray,
};
use arrow::record_batch::RecordBatch;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use highwater_pipeline::data::{Control, labels, time};
use highwater_pipeline::runtime::{At, Effects, Input, Processor, StageRows};
use highwater_processors::rules::promql::{Environment, GroupPlan};
use highwater_processors::rules::{RuleFile, RulesProcessor};

/// 2026-03-01T00:00:00Z.
const START_S: i64 = 1_772_323_200;
const SERIES_OF_A_RULE: usize = 10;
const RULES_OF_A_GROUP: usize = 100;
/// Seconds of samples that are there before anything is measured.
const WARM_S: i64 = 60;

fn rules(count: usize) -> Vec<Arc<GroupPlan>> {
    let mut text = String::from("groups:\n");
    for rule in 0..count {
        if rule % RULES_OF_A_GROUP == 0 {
            writeln!(text, "  - name: g{rule}\n    interval: 1s\n    rules:").unwrap();
        }
        let expr = match rule % 2 {
            0 => format!("load{{rule=\"{rule}\"}} > 90"),
            _ => format!("avg_over_time(load{{rule=\"{rule}\"}}[1m]) > 90"),
        };
        writeln!(text, "      - {{alert: A{rule}, expr: '{expr}', for: 10s}}").unwrap();
    }
    GroupPlan::of_files(&[RuleFile::parse("rules.yaml", &text).unwrap()]).unwrap()
}

/// The samples of one second, as the tasks of `metrics` send them.
struct Samples {
    columns: Vec<(&'static str, ArrayRef)>,
    count: usize,
}

impl Samples {
    fn new(count: usize) -> Self {
        let (mut texts, mut ids) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for series in 0..count {
            let (rule, host) = ((series / SERIES_OF_A_RULE).to_string(), format!("host-{}", series % 1_000));
            let pairs = [("host", host.as_str()), ("job", "bench"), ("rule", rule.as_str())];
            let (mut text, mut named) = (String::new(), String::new());
            labels::write_canonical(pairs, &mut text);
            labels::write_series("load", &pairs, &mut named);
            ids.push(labels::series_id(&named));
            texts.push(text);
        }
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("name", Arc::new(StringArray::from(vec!["load"; count]))),
            ("value", Arc::new(Float64Array::from_iter_values((0..count).map(|at| (at % 90) as f64)))),
            ("stale", Arc::new(BooleanArray::from(vec![false; count]))),
            ("labels", Arc::new(StringArray::from(texts))),
            ("series_id", Arc::new(Int64Array::from(ids))),
            ("tenant", Arc::new(StringArray::from(vec!["default"; count]))),
            ("_partition", Arc::new(Int32Array::from(vec![0; count]))),
            ("_offset", Arc::new(Int64Array::from(vec![0; count]))),
        ];
        Self { columns, count }
    }

    fn at(&self, second: i64) -> RecordBatch {
        let times = TimestampMicrosecondArray::from(vec![(START_S + second) * 1_000_000; self.count]);
        let mut columns = self.columns.clone();
        columns.push((time::COLUMN, Arc::new(times.with_timezone(time::ZONE))));
        RecordBatch::try_from_iter(columns).unwrap()
    }
}

struct Task {
    rules: RulesProcessor,
    second: i64,
}

impl Task {
    /// A second passes, with these samples or in silence.
    fn tick(&mut self, samples: Option<&Samples>) -> usize {
        let at = At { position: self.second, append_time_us: 0, watermark_us: None, idle: false };
        let mut effects = Effects::new();
        if let Some(samples) = samples {
            let batch = samples.at(self.second);
            let rows = StageRows { name: "__metrics".into(), definition: 1, source: "metrics/0".into(), batch };
            self.rules.process(at, Input::Stage(rows), &mut effects).unwrap();
        }
        let progress = Control::Progress {
            source: "metrics/0".to_owned(),
            position: self.second,
            watermark_us: Some((START_S + self.second) * 1_000_000),
            idle: false,
            rules: None,
        };
        self.rules.process(at, Input::Control(&progress), &mut effects).unwrap();
        self.second += 1;
        effects.take().len()
    }
}

fn ticks(criterion: &mut Criterion) {
    for count in [1_000, 10_000] {
        let series = count * SERIES_OF_A_RULE;
        let samples = Samples::new(series);
        let rules = RulesProcessor::new("__highwater.rules", 0, 1, &[]).with_groups(
            1,
            &rules(count),
            &Arc::new(Environment::default()),
            false,
        );
        let mut task = Task { rules, second: 0 };
        for _ in 0..WARM_S {
            task.tick(Some(&samples));
        }
        let mut group = criterion.benchmark_group(format!("{count} rules"));
        group.sample_size(10).throughput(Throughput::Elements(series as u64));
        group.bench_function("with samples", |bench| bench.iter(|| task.tick(Some(&samples))));
        group.bench_function("in silence", |bench| bench.iter(|| task.tick(None)));
        group.finish();
    }
}

criterion_group!(benches, ticks);
criterion_main!(benches);
