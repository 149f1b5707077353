//! The rows that both have.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};

use super::spec;
use crate::fixture::Fixture;

/// 2026-01-02T03:00:00Z, in microseconds, and how long the rows go on from there.
pub(super) const BEGIN_US: i64 = 1_767_322_800_000_000;
pub(super) const SPAN_US: i64 = 3 * 3600 * 1_000_000;
const LOGS: usize = 2_500;
const METRICS: usize = 2_000;

pub(super) const SERVICES: [&str; 5] = ["web", "db", "cart", "auth", "mail"];
pub(super) const LEVELS: [&str; 5] = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"];
pub(super) const HOSTS: [&str; 4] = ["a", "b", "c", "d"];
pub(super) const PATHS: [&str; 4] = ["/", "/cart", "/x%y", "/ü"];
pub(super) const WORDS: [&str; 6] = ["timeout", "GET", "slow_query", "100%", "naïve ✓", "it's"];
pub(super) const NAMES: [&str; 4] = ["cpu", "requests_total", "temperature", "up"];

fn time(us: i64) -> String {
    chrono::DateTime::from_timestamp_micros(us).unwrap().format("%Y-%m-%dT%H:%M:%S%.6f").to_string()
}

fn one<'a>(random: &mut StdRng, of: &[&'a str]) -> &'a str {
    of[random.random_range(0..of.len())]
}

fn logs() -> Vec<Value> {
    let mut random = StdRng::seed_from_u64(11);
    let mut rows = Vec::new();
    for n in 0..LOGS {
        let mut attributes = Map::new();
        if random.random_bool(0.8) {
            attributes.insert("path".into(), one(&mut random, &PATHS).into());
            attributes.insert("ms".into(), random.random_range(0..2_000_u32).to_string().into());
        }
        if random.random_bool(0.3) {
            attributes.insert("user".into(), format!("u{}", random.random_range(0..40_u32)).into());
        }
        // Several rows at one moment.
        let at = BEGIN_US + random.random_range(0..SPAN_US / 500_000) * 500_000;
        let some = |random: &mut StdRng, of: &[&str], p: f64| match random.random_bool(p) {
            true => Value::from(one(random, of)),
            false => Value::Null,
        };
        let message = format!("{} {n} {}", one(&mut random, &WORDS), one(&mut random, &WORDS));
        let trace_id = random.random_bool(0.5).then(|| format!("t{}", random.random_range(0..200_u32)));
        rows.push(json!({
            "timestamp": time(at), "level": some(&mut random, &LEVELS, 0.9), "service": some(&mut random, &SERVICES, 0.95),
            "host": some(&mut random, &HOSTS, 0.9), "message": message, "trace_id": trace_id, "attributes": attributes,
        }));
    }
    rows
}

fn metrics() -> Vec<Value> {
    let mut random = StdRng::seed_from_u64(12);
    (0..METRICS)
        .map(|_| {
            let at = BEGIN_US + random.random_range(0..SPAN_US / 15_000_000) * 15_000_000;
            let value = match random.random_range(0..4_u32) {
                0 => f64::from(random.random_range(0..2_u32)),
                1 => -random.random::<f64>() * 100.0,
                _ => f64::from(random.random_range(0..1_000_000_u32)) / 8.0,
            };
            let mut labels = Map::new();
            labels.insert("job".into(), one(&mut random, &SERVICES).into());
            if random.random_bool(0.5) {
                labels.insert("host".into(), one(&mut random, &HOSTS).into());
            }
            json!({"timestamp": time(at), "name": one(&mut random, &NAMES), "value": value, "labels": labels})
        })
        .collect()
}

fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

pub(super) fn logs_ndjson() -> String {
    lines(&logs())
}

pub(super) fn metrics_ndjson() -> String {
    lines(&metrics())
}

/// Appends all of them, in records of a few rows, to partitions as they come; about half are committed, in several commits.
pub(super) async fn append(fixture: &Fixture) {
    let mut random = StdRng::seed_from_u64(13);
    for (topic, rows) in [("logs", logs()), ("metrics", metrics())] {
        let half = rows.len() / 2;
        let (mut at, mut next_commit) = (0, half / 5);
        while at < rows.len() {
            let to = (at + random.random_range(1..40_usize)).min(rows.len());
            let sent: Vec<Value> = rows[at..to]
                .iter()
                .map(|row| {
                    let mut row = row.as_object().unwrap().clone();
                    row.retain(|_, value| !value.is_null());
                    if let Some(attributes) = row.remove("attributes") {
                        row.insert("labels".into(), attributes);
                    }
                    let at = row["timestamp"].as_str().unwrap().to_owned() + "Z";
                    row.insert("timestamp".into(), at.into());
                    Value::Object(row)
                })
                .collect();
            fixture.append_json(topic, random.random_range(0..4_i32), &Value::Array(sent)).await;
            at = to;
            if at >= next_commit && at <= half {
                fixture.commit(&spec(topic)).await;
                next_commit += half / 5;
            }
        }
    }
}
