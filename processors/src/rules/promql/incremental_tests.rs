//! Rules evaluated when something of theirs has changed, against the same rules evaluated at each tick: whatever the rules, whatever comes and however
//! late, restarted or not, what they say and what they remember is the same to the byte.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Float64Array, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray,
};
use arrow::record_batch::RecordBatch;
use highwater_pipeline::data::{Control, labels, time};
use highwater_pipeline::runtime::snapshot::{StateReader, StateWriter};
use highwater_pipeline::runtime::{At, Effect, Effects, StageRows};
use highwater_promql::{BucketSpan, Histogram};
use proptest::prelude::*;

use super::super::file::RuleFile;
use super::plan::GroupPlan;
use super::ticks::{ROWS, ROWS_VERSION, Ticks};

/// Not a multiple of any interval.
pub(super) const START_MS: i64 = 1_772_323_203_500;

/// Rules of every way to look at samples, and rules over what rules write.
const RULES: &[&str] = &[
    "record: 'r:sum', expr: 'sum by (x) (a)'",
    "record: 'r:max', expr: 'max_over_time(a[20s])'",
    "record: 'r:rate', expr: 'rate(b[30s])'",
    "record: 'r:chain', expr: 'r:sum * 2 + on (x) group_left () sum by (x) (r:max)'",
    "record: 'a', expr: 'c{x=\"1\"} + 1', labels: {y: made}",
    "record: 'r:time', expr: 'time() - timestamp(a{y=\"p\"})'",
    "record: 'r:two', expr: 'a + on (x) b'",
    "alert: Plain, expr: 'a > 2', for: 5s, annotations: {v: '{{ $value }}'}",
    "alert: Keep, expr: 'b{x=\"1\"} > 1', keep_firing_for: 20s",
    "alert: Both, expr: 'a{y=\"q\"} > 1 and on (x) b > 0', for: 3s, keep_firing_for: 4s",
    "alert: Labels, expr: 'count by (x) (c) > 1', labels: {n: '{{ $value }}'}",
    "alert: Query, expr: 'c > 3', annotations: {now: '{{ with query \"sum(a)\" }}{{ . | first | value }}{{ end }}'}",
    "alert: Absent, expr: 'absent(a{x=\"2\"})', for: 10s",
    "alert: Silent, expr: 'absent_over_time(b[45s])'",
    "alert: Avg, expr: 'avg_over_time(a[10s]) > 1.5'",
    "alert: Quantile, expr: 'quantile_over_time(0.5, c[40s]) > 1'",
    "alert: Rate, expr: 'rate(b[20s]) > 0'",
    "alert: Increase, expr: 'sum(increase(c[1m])) > 2'",
    "alert: Delta, expr: 'delta(a{x=\"1\"}[15s]) == 0'",
    "alert: Irate, expr: 'irate(c[25s]) != 0'",
    "alert: Changes, expr: 'changes(b[30s]) + resets(b[30s]) > 1'",
    "alert: Deriv, expr: 'deriv(a[30s]) > 0 or predict_linear(b[30s], 10) > 3'",
    "alert: Count, expr: 'count_over_time(c[7s]) > 1'",
    "alert: Offset, expr: 'a offset 10s > 2'",
    "alert: Ahead, expr: 'b offset -10s > 2'",
    "alert: RateOffset, expr: 'rate(b[20s] offset 15s) > 0'",
    "alert: Both ends, expr: 'a > 1 and last_over_time(a[5m]) < 5'",
    "alert: Pinned, expr: 'a @ 1772323210 > 1'",
    "alert: Ends, expr: 'b @ end() > 3'",
    "alert: Sub, expr: 'max_over_time(a[30s:5s]) > 2'",
    "alert: SubRate, expr: 'max_over_time(rate(b[20s])[40s:10s] offset 3s) > 0'",
    "alert: SubSub, expr: 'sum_over_time(max_over_time(c[10s:2s])[20s:5s]) > 3'",
    "alert: SubTime, expr: 'last_over_time((time() - c)[17s:4s]) > 0'",
    "alert: Time, expr: 'vector(time()) % 20 < 3'",
    "alert: Second, expr: 'minute() % 2 == 0 and on () a > 1'",
    "alert: Always, expr: 'vector(1)'",
    "alert: Scalar, expr: 'scalar(a{x=\"1\", y=\"p\"}) > bool 1'",
    "alert: Stamp, expr: 'timestamp(a) < 1772323230'",
    "alert: StampTime, expr: 'timestamp(a + 1) % 7 < 2'",
    "alert: Regex, expr: 'a{x=~\"1|2\", y!=\"p\"} > 1'",
    "alert: Any, expr: '{__name__=~\"a|b\", x=\"\"} > 1'",
    "alert: Nameless, expr: 'sum({x=\"1\"}) > 4'",
    "alert: Top, expr: 'topk(2, c) > 1'",
    "alert: Unless, expr: 'a unless on (x, y) c'",
    "alert: Stacked, expr: 'ALERTS{alertstate=\"firing\", alertname=~\"Plain|Rate\"}', for: 2s",
    "alert: Since, expr: 'time() - ALERTS_FOR_STATE > 10'",
    "alert: OverRecorded, expr: 'r:sum > 4'",
    "alert: OverChain, expr: 'max_over_time(r:chain[15s]) > 3', for: 4s",
    "alert: Replaced, expr: 'label_replace(a, \"z\", \"$1\", \"x\", \"(.*)\") > 2'",
    "alert: Nothing, expr: 'nothing_there > 0'",
    "alert: Native, expr: 'histogram_count(h{x=\"1\"}) > 2', for: 3s",
    "alert: NativeRate, expr: 'histogram_quantile(0.9, sum by (x) (rate(h[30s]))) > 1'",
    "alert: NativeOver, expr: 'histogram_sum(sum_over_time(h[20s])) > 8 or absent(h{x=\"2\"})'",
];
const INTERVALS: &[&str] = &["1s", "2s", "5s", "15s", "1m"];

#[derive(Debug, Clone)]
enum Step {
    /// Samples of series (metric, x, y), so many milliseconds before (or ahead of) now, and a value.
    Samples(Vec<(usize, i64, u8)>),
    /// So many milliseconds pass.
    Pass(i64),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let back = prop_oneof![6 => 0..4_000_i64, 1 => 0..60_000_i64, 1 => 0..500_000_i64, 1 => -30_000..0_i64];
    let sample = (0..24_usize, back, 0..9_u8);
    let step = prop_oneof![
        6 => proptest::collection::vec(sample, 1..8).prop_map(Step::Samples),
        6 => (200..4_000_i64).prop_map(Step::Pass),
        2 => (5_000..25_000_i64).prop_map(Step::Pass),
        1 => prop_oneof![3 => Just(55_000_i64), 1 => Just(310_000)].prop_map(Step::Pass),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 4..40)
}

fn plans(rules: &[(usize, u8)], limit: u8) -> Vec<Arc<GroupPlan>> {
    let mut text = String::from("groups:\n");
    for (at, group) in rules.chunks(4).enumerate() {
        let interval = INTERVALS[usize::from(group[0].1) % INTERVALS.len()];
        let offset = ["0s", "0s", "3s", "1m"][usize::from(group[0].1 / 5) % 4];
        writeln!(text, "  - name: g{at}\n    interval: {interval}\n    query_offset: {offset}").unwrap();
        writeln!(text, "    limit: {}\n    rules:", if limit == 0 { 3 } else { 0 }).unwrap();
        for (rule, _) in group {
            writeln!(text, "      - {{{}}}", RULES[rule % RULES.len()]).unwrap();
        }
    }
    GroupPlan::of_files(&[RuleFile::parse("rules.yaml", &text).unwrap()]).unwrap()
}

/// So many observations of about three.
fn native(count: u8) -> Histogram {
    let count = f64::from(count);
    let positive_spans = vec![BucketSpan { offset: 2, length: 1 }];
    Histogram { count, sum: 3.0 * count, positive_spans, positive_buckets: vec![count], ..Histogram::default() }
}

/// Rows of `metrics` as their tasks send them.
pub(super) fn rows(now_ms: i64, samples: &[(usize, i64, u8)], offset: i64) -> StageRows {
    let (mut times, mut names, mut values, mut stale) = (vec![], vec![], vec![], vec![]);
    let (mut texts, mut ids, mut tenants, mut natives) = (vec![], vec![], vec![], vec![]);
    for (series, back_ms, value) in samples {
        let (name, x, y) = (["a", "b", "c", "h"][series / 6], ["1", "2", ""][series / 2 % 3], ["p", "q"][series % 2]);
        let pairs = [("x", x), ("y", y)];
        let pairs: Vec<(&str, &str)> = pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let (mut canonical, mut named) = (String::new(), String::new());
        labels::write_canonical(pairs.iter().copied(), &mut canonical);
        labels::write_series(name, &pairs, &mut named);
        times.push((now_ms - back_ms) * 1_000);
        names.push(name);
        ids.push(labels::series_id(&named));
        texts.push(canonical);
        stale.push(*value == 8);
        // Mostly; a few of its samples are floats.
        let is_native = name == "h" && *value < 7;
        natives.push(is_native.then(|| native(*value).to_message()));
        values.push(match value {
            _ if is_native => None,
            8 => None,
            7 => Some(f64::NAN),
            6 => Some(f64::INFINITY),
            value => Some(f64::from(*value)),
        });
        tenants.push(if *series == 5 { "other" } else { "default" });
    }
    let count = samples.len();
    let columns: Vec<(&str, ArrayRef)> = vec![
        (time::COLUMN, Arc::new(TimestampMicrosecondArray::from(times).with_timezone(time::ZONE))),
        ("name", Arc::new(StringArray::from(names))),
        ("value", Arc::new(Float64Array::from(values))),
        ("stale", Arc::new(BooleanArray::from(stale))),
        ("histogram", Arc::new(BinaryArray::from_iter(natives))),
        ("labels", Arc::new(StringArray::from(texts))),
        ("series_id", Arc::new(Int64Array::from(ids))),
        ("tenant", Arc::new(StringArray::from(tenants))),
        ("_partition", Arc::new(Int32Array::from(vec![0; count]))),
        ("_offset", Arc::new(Int64Array::from(vec![offset; count]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    StageRows { name: ROWS.into(), definition: ROWS_VERSION, source: "metrics/0".into(), batch }
}

pub(super) fn snapshot(ticks: &Ticks) -> StateReader {
    let mut writer = StateWriter::new();
    ticks.write(&mut writer).unwrap();
    writer.into_reader(0, 1)
}

/// Everything that the rules said.
fn play(make: &dyn Fn() -> Ticks, steps: &[Step], restarts: bool) -> (Vec<Effect>, StateReader) {
    let (mut ticks, mut now_ms, mut said) = (make(), START_MS, Vec::new());
    for (position, step) in (0..).zip(steps) {
        let at = At { position, append_time_us: 0, watermark_us: None, idle: false };
        let mut effects = Effects::new();
        match step {
            Step::Samples(samples) => ticks.rows(&rows(now_ms, samples, position)).unwrap(),
            Step::Pass(ms) => now_ms += ms,
            Step::Restart if restarts => {
                let saved = snapshot(&ticks);
                ticks = make();
                ticks.restore(&saved).unwrap();
            }
            Step::Restart => {}
        }
        let progress = Control::Progress {
            source: "metrics/0".to_owned(),
            position,
            watermark_us: Some(now_ms * 1_000),
            idle: false,
            rules: None,
        };
        ticks.progress(at, &progress, &mut effects).unwrap();
        said.extend(effects.take());
    }
    (said, snapshot(&ticks))
}

/// Few cases, but many ticks each; `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_some() { config } else { ProptestConfig { cases: 16, ..config } }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_is_evaluated_when_it_changes_is_what_is_evaluated_at_each_tick(
        rules in proptest::collection::vec((0..RULES.len(), any::<u8>()), 1..14),
        steps in steps(),
        limit in 0..6_u8,
        most_noted in prop_oneof![3 => Just(None), 1 => (0..9_usize).prop_map(Some)],
    ) {
        let plans = plans(&rules, limit);
        let make = || Ticks::new("__highwater.rules", 0, 1, &plans, &Arc::default(), false);
        let (expected, state) = play(&|| make().at_each_tick(), &steps, false);
        for restarts in [false, true] {
            let (got, got_state) = play(&|| make().noting_at_most(most_noted), &steps, restarts);
            prop_assert_eq!(&got, &expected);
            prop_assert_eq!(got_state.sections(), state.sections());
        }
    }
}
