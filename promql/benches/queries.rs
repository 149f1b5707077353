//! The queries that dashboards ask most, over 1, 100 and 2,000 series in memory: `cargo bench -p highwater-promql`.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use highwater_promql::{
    Cancel, Labels, Options, ParserOptions, Query, Selection, Series, SeriesSource, SourceError, Steps,
};

/// Series with a sample every 15 s for an hour and ten minutes, handed over as they are.
struct Memory(Vec<Series>);

impl SeriesSource for Memory {
    fn select(&self, selection: &Selection) -> Result<Vec<Series>, SourceError> {
        let name = selection.metric_name();
        let cut = |s: &Series| {
            let from = s.timestamps_ms.partition_point(|t| *t <= selection.start_ms);
            let to = s.timestamps_ms.partition_point(|t| *t <= selection.end_ms);
            Series::floats(s.labels.clone(), s.timestamps_ms[from..to].to_vec(), s.values[from..to].to_vec())
        };
        Ok(self.0.iter().filter(|s| name.is_none_or(|n| n == s.labels.name())).map(cut).collect())
    }
}

fn memory(count: usize) -> Memory {
    let points = 70 * 4;
    let times: Vec<i64> = (0..points).map(|i| i * 15_000).collect();
    let series = |name: &str, i: usize, le: Option<&str>| {
        let mut labels = vec![
            ("__name__".to_owned(), name.to_owned()),
            ("job".to_owned(), format!("job-{}", i % 10)),
            ("instance".to_owned(), format!("host-{}:9100", i / 10)),
            ("region".to_owned(), format!("region-{}", i % 3)),
        ];
        labels.extend(le.map(|le| ("le".to_owned(), le.to_owned())));
        let values = (0..points).map(|p| (p * (1 + i as i64 % 7)) as f64 + (i % 13) as f64 / 13.0).collect();
        Series::floats(Labels::from_pairs(labels), times.clone(), values)
    };
    let mut all: Vec<Series> = (0..count).map(|i| series("x_total", i, None)).collect();
    all.extend((0..count).map(|i| series("y", i, None)));
    let bounds = ["0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"];
    all.extend((0..count).map(|i| series("z_bucket", i / bounds.len(), Some(bounds[i % bounds.len()]))));
    Memory(all)
}

fn queries(c: &mut Criterion) {
    let instant = Steps::instant(4_200_000);
    let Ok(range) = Steps::range(600_000, 4_200_000, 15_000) else { return };
    let mut group = c.benchmark_group("promql");
    for count in [1, 100, 2_000] {
        let source = memory(count);
        for (name, steps, text) in [
            ("instant", instant, "x_total"),
            ("range", range, "x_total"),
            ("instant sum rate", instant, "sum by (job) (rate(x_total[5m]))"),
            ("sum rate", range, "sum by (job) (rate(x_total[5m]))"),
            ("join", range, "x_total * on (job, instance, region) y"),
            ("quantile", range, "quantile by (job) (0.9, rate(x_total[5m]))"),
            ("histogram quantile", range, "histogram_quantile(0.9, sum by (le, job) (rate(z_bucket[5m])))"),
            ("topk", range, "topk(5, rate(x_total[5m]))"),
            ("max over time", range, "max_over_time(x_total[5m])"),
        ] {
            let Ok(query) = Query::parse(text, &ParserOptions::default()) else { continue };
            group.bench_function(BenchmarkId::new(name, count), |b| {
                b.iter(|| {
                    black_box(query.evaluate(&source, &steps, &Options::default(), &Cancel::new()).map(|a| a.stats))
                });
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = queries
}
criterion_main!(benches);
