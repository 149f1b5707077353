//! The samples that both have: counters with resets, gauges with gaps, classic histograms, stale series, odd values, odd names.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use highwater_promql::{BucketSpan, CounterResetHint, Histogram};

use super::super::data::{BEGIN_MS, TestSeries};
use super::remote_write;

/// Samples of a series that misses none: an hour, one each 15 seconds.
const COUNT: i64 = 241;
const STEP_MS: i64 = 15_000;

/// All series.
pub(super) fn all() -> Vec<TestSeries> {
    let mut random = StdRng::seed_from_u64(7);
    let mut all = Vec::new();
    for job in ["api", "web", "batch"] {
        for instance in ["a:1", "b:2", "c:3"] {
            let labels = [("job", job), ("instance", instance)];
            all.push(made(
                "up",
                &labels,
                times(&mut random, 0.02),
                |_, i| if i % 37 == 5 { 0.0 } else { 1.0 },
                &mut random,
            ));
            for code in ["200", "404", "500"] {
                let labels = [labels[0], labels[1], ("code", code)];
                let mut counter = 0.0;
                let step = move |random: &mut StdRng, i: usize| {
                    counter = if i > 0 && random.random_bool(0.01) {
                        0.0
                    } else {
                        counter + f64::from(random.random_range(0..40_u8))
                    };
                    counter
                };
                all.push(made("requests_total", &labels, times(&mut random, 0.05), step, &mut random));
            }
            histogram(&mut all, &labels, &mut random);
        }
    }
    for room in ["kitchen", "cellar", "attic", ""] {
        let labels = [("room", room), ("floor", if room == "attic" { "1" } else { "0" })];
        let mut level = 20.0;
        let step = move |random: &mut StdRng, _| {
            level += random.random_range(-1.0..1.0);
            level
        };
        all.push(made("temperature_celsius", &labels, times(&mut random, 0.2), step, &mut random));
    }
    // Of one value each, for joins.
    for (job, team) in [("api", "core"), ("web", "edge")] {
        all.push(made("job_info", &[("job", job), ("team", team)], times(&mut random, 0.0), |_, _| 1.0, &mut random));
    }
    // Ends, and comes back.
    let mut flapping = made("flapping", &[("job", "api")], times(&mut random, 0.0), |_, i| i as f64, &mut random);
    for (i, sample) in flapping.samples.iter_mut().enumerate() {
        if i % 20 == 10 {
            sample.1 = None;
        }
    }
    flapping.samples.retain(|(time_ms, _)| !(11..19).contains(&((time_ms - BEGIN_MS) / STEP_MS % 20)));
    all.push(flapping);
    let odd = [0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e-300, 0.1, 1e-9, -5.0];
    all.push(made("odd_values", &[("kind", "all")], times(&mut random, 0.0), |_, i| odd[i % odd.len()], &mut random));
    all.push(made(
        "odd_values",
        &[("kind", "big")],
        times(&mut random, 0.0),
        |_, i| 1e22 + i as f64 * 1e19,
        &mut random,
    ));
    all.push(made("odd_values", &[("kind", "tiny")], times(&mut random, 0.0), |_, i| 1e-12 * i as f64, &mut random));
    all.push(made(
        "system.memory.usage",
        &[("host.name", "h-1"), ("state", "used")],
        times(&mut random, 0.1),
        |_, i| i as f64 * 1e6,
        &mut random,
    ));
    native(&mut all, &mut random);
    all.push(made(
        "sparse",
        &[("job", "cron")],
        (0..=6).map(|i| BEGIN_MS + i * 600_000).collect(),
        |_, i| i as f64,
        &mut random,
    ));
    all
}

/// Times from the beginning on, some missing, each up to a tenth of a second late.
fn times(random: &mut StdRng, missing: f64) -> Vec<i64> {
    let mut times = Vec::new();
    for i in 0..COUNT {
        if missing == 0.0 || !random.random_bool(missing) {
            times.push(BEGIN_MS + i * STEP_MS + if missing == 0.0 { 0 } else { random.random_range(0..100) });
        }
    }
    times
}

fn made(
    name: &str,
    pairs: &[(&str, &str)],
    times: Vec<i64>,
    mut value: impl FnMut(&mut StdRng, usize) -> f64,
    random: &mut StdRng,
) -> TestSeries {
    let pairs = [("__name__", name)].into_iter().chain(pairs.iter().copied()).filter(|(_, value)| !value.is_empty());
    let labels: BTreeMap<String, String> = pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let samples = times.into_iter().enumerate().map(|(i, time_ms)| (time_ms, Some(value(random, i)))).collect();
    TestSeries { labels, kind: None, samples, histograms: Vec::new() }
}

/// Native histograms: counters with resets and a change of resolution, custom bounds that change, a gauge with buckets below zero, and a series
/// that was of floats first.
fn native(all: &mut Vec<TestSeries>, random: &mut StdRng) {
    for (job, instance) in [("api", "a:1"), ("api", "b:2"), ("web", "a:1")] {
        let mut h = Histogram::default();
        let step = move |random: &mut StdRng, i: usize| {
            if i == 0 || random.random_bool(0.01) {
                h = exponential(if i > 120 { 1 } else { 2 }, 6);
            }
            observe(&mut h, random);
            h.clone()
        };
        all.push(of_histograms("native_seconds", &[("job", job), ("instance", instance)], 0.05, step, random));
    }
    for job in ["api", "web"] {
        let mut h = Histogram::default();
        let step = move |random: &mut StdRng, i: usize| {
            if i == 0 || i == 150 || random.random_bool(0.01) {
                h = custom(if i < 150 { &[0.1, 0.5, 1.0] } else { &[0.1, 1.0, 5.0] });
            }
            observe(&mut h, random);
            h.clone()
        };
        all.push(of_histograms("native_custom", &[("job", job)], 0.0, step, random));
    }
    for room in ["kitchen", "cellar"] {
        let step = |random: &mut StdRng, _: usize| {
            let mut h = exponential(0, 3);
            h.counter_reset_hint = CounterResetHint::Gauge;
            h.negative_spans = vec![BucketSpan { offset: -1, length: 2 }];
            h.negative_buckets = vec![0.0; 2];
            observe(&mut h, random);
            h
        };
        all.push(of_histograms("native_gauge", &[("room", room)], 0.1, step, random));
    }
    let mut h = exponential(1, 4);
    let mut mixed = of_histograms(
        "mixed",
        &[("job", "api")],
        0.0,
        move |random, _| {
            observe(&mut h, random);
            h.clone()
        },
        random,
    );
    mixed.samples = mixed
        .histograms
        .drain(..100)
        .map(|(time_ms, _)| (time_ms, Some(f64::from(random.random_range(0..9_u8)))))
        .collect();
    all.push(mixed);
}

fn exponential(schema: i32, buckets: u32) -> Histogram {
    Histogram {
        schema,
        zero_threshold: 1e-3,
        positive_spans: vec![BucketSpan { offset: -2, length: 2 }, BucketSpan { offset: 1, length: buckets - 2 }],
        positive_buckets: vec![0.0; buckets as usize],
        ..Histogram::default()
    }
}

fn custom(bounds: &[f64]) -> Histogram {
    Histogram {
        schema: -53,
        custom_values: bounds.to_vec(),
        positive_spans: vec![BucketSpan { offset: 0, length: bounds.len() as u32 + 1 }],
        positive_buckets: vec![0.0; bounds.len() + 1],
        ..Histogram::default()
    }
}

/// Some more observations.
fn observe(h: &mut Histogram, random: &mut StdRng) {
    let exponential = h.schema != -53;
    for bucket in h.positive_buckets.iter_mut().chain(&mut h.negative_buckets) {
        let seen = f64::from(random.random_range(0..4_u8));
        *bucket += seen;
        h.count += seen;
        h.sum += seen * random.random_range(0.1..2.0);
    }
    if exponential {
        let seen = f64::from(random.random_range(0..2_u8));
        h.zero_count += seen;
        h.count += seen;
    }
}

fn of_histograms(
    name: &str,
    pairs: &[(&str, &str)],
    missing: f64,
    mut step: impl FnMut(&mut StdRng, usize) -> Histogram,
    random: &mut StdRng,
) -> TestSeries {
    let times = times(random, missing);
    let mut series = made(name, pairs, Vec::new(), |_, _| 0.0, random);
    let message = |(i, time_ms): (usize, i64)| (time_ms, remote_write::histogram(&step(random, i), time_ms));
    series.histograms = times.into_iter().enumerate().map(message).collect();
    series
}

/// Buckets, sum and count.
fn histogram(all: &mut Vec<TestSeries>, labels: &[(&str, &str)], random: &mut StdRng) {
    const BOUNDS: [(&str, f64); 5] = [("0.1", 0.1), ("0.5", 0.5), ("1", 1.0), ("5", 5.0), ("+Inf", f64::INFINITY)];
    let times = times(random, 0.0);
    let mut buckets = vec![Vec::new(); BOUNDS.len()];
    let (mut counts, mut sum, mut sums) = ([0.0; BOUNDS.len()], 0.0, Vec::new());
    for _ in &times {
        for _ in 0..random.random_range(0..12_u8) {
            let seen = random.random_range(0.0..2.0_f64).powi(3);
            sum += seen;
            for (count, (_, bound)) in counts.iter_mut().zip(BOUNDS) {
                if seen <= bound {
                    *count += 1.0;
                }
            }
        }
        sums.push(sum);
        for (bucket, count) in buckets.iter_mut().zip(counts) {
            bucket.push(count);
        }
    }
    for ((le, _), values) in BOUNDS.iter().zip(&buckets) {
        let labels: Vec<(&str, &str)> = labels.iter().copied().chain([("le", *le)]).collect();
        all.push(made("latency_seconds_bucket", &labels, times.clone(), |_, i| values[i], random));
    }
    all.push(made("latency_seconds_sum", labels, times.clone(), |_, i| sums[i], random));
    let counts = &buckets[BOUNDS.len() - 1];
    all.push(made("latency_seconds_count", labels, times, |_, i| counts[i], random));
}
