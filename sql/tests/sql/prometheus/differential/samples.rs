//! The samples that both have: counters with resets, gauges with gaps, classic histograms, stale series, odd values, odd names.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::data::{BEGIN_MS, TestSeries};

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
    TestSeries { labels, kind: None, samples }
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
