//! `/api/v1/status/*`: what the server is and holds.

use std::collections::BTreeMap;

use axum::response::Response;
use highwater_promql::Labels;
use serde::Serialize;
use serde_json::json;

use super::Request;
use super::rules::time;
use crate::prometheus::Prometheus;
use crate::prometheus::encode::success;
use crate::prometheus::error::ApiError;
use crate::prometheus::params::parse_int;
use crate::prometheus::source::Wanted;

/// The version of Prometheus whose API this is: clients choose by it what they ask for.
const API_VERSION: &str = "3.5.0";
/// What `/status/tsdb` counts: as much as Prometheus's head holds.
const RECENT_MS: i64 = 2 * 3_600_000;
/// Entries per list of `/status/tsdb`, and the most that can be asked for.
const TOP: i64 = 10;
const MAX_TOP: i64 = 10_000;

/// `GET /api/v1/status/buildinfo`.
pub(super) async fn build_info(server: &Prometheus, _: &Request) -> Result<Response, ApiError> {
    let version = match server.server.version.as_str() {
        "" => API_VERSION.to_owned(),
        own => format!("{API_VERSION}+highwater.{own}"),
    };
    Ok(success(&json!({
        "version": version, "revision": "", "branch": "", "buildUser": "", "buildDate": "", "goVersion": "",
        "application": "Highwater",
    })))
}

/// `GET /api/v1/status/runtimeinfo`.
pub(super) async fn runtime_info(server: &Prometheus, _: &Request) -> Result<Response, ApiError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let started = time(Some(server.server.started_ms));
    Ok(success(&json!({
        "startTime": started,
        "CWD": std::env::current_dir().map(|dir| dir.display().to_string()).unwrap_or_default(),
        "hostname": server.server.hostname,
        "serverTime": time(Some(server.clock.now_ms())),
        "reloadConfigSuccess": true,
        "lastConfigTime": started,
        "corruptionCount": 0,
        "goroutineCount": 0,
        "GOMAXPROCS": threads,
        "GOMEMLIMIT": i64::MAX,
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": server.server.retention,
    })))
}

/// `GET /api/v1/status/config`.
pub(super) async fn config(server: &Prometheus, _: &Request) -> Result<Response, ApiError> {
    Ok(success(&json!({ "yaml": server.server.config_yaml })))
}

/// `GET /api/v1/status/flags`.
pub(super) async fn flags(server: &Prometheus, _: &Request) -> Result<Response, ApiError> {
    let config = &server.config;
    let mut flags = server.server.flags.clone();
    let seconds = |duration: std::time::Duration| {
        highwater_promql::parser::format_duration_ms(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
    };
    flags.insert("query.lookback-delta".to_owned(), seconds(config.lookback_delta));
    flags.insert("query.timeout".to_owned(), seconds(config.timeout));
    flags.insert("query.max-concurrency".to_owned(), config.max_concurrency.to_string());
    flags.insert("query.max-samples".to_owned(), config.max_samples.to_string());
    Ok(success(&flags))
}

/// `GET /api/v1/status/walreplay`: the log is recovered before this port answers.
pub(super) async fn wal_replay(_: &Prometheus, _: &Request) -> Result<Response, ApiError> {
    Ok(success(&json!({ "min": 0, "max": 0, "current": 0 })))
}

#[derive(Serialize)]
struct Count {
    name: String,
    value: usize,
}

/// `GET /api/v1/status/tsdb`: the series of the last two hours.
pub(super) async fn tsdb(server: &Prometheus, request: &Request) -> Result<Response, ApiError> {
    let text = request.form.value("limit");
    let limit = if text.is_empty() { Ok(TOP) } else { parse_int(text) };
    let limit =
        limit.ok().filter(|limit| *limit >= 1).ok_or_else(|| ApiError::bad_data("limit must be a positive number"))?;
    if limit > MAX_TOP {
        return Err(ApiError::bad_data(format!("limit must not exceed {MAX_TOP}")));
    }
    let now_ms = server.clock.now_ms();
    let recent = Wanted::new([], now_ms - RECENT_MS, now_ms)?;
    let series = server.find(request.tenant.as_str(), recent).await?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let counted = Counted::of(&series);
    let pairs = counted.series_by_pair.len();
    let top = |counts: BTreeMap<String, usize>| -> Vec<Count> {
        let mut counts: Vec<Count> = counts.into_iter().map(|(name, value)| Count { name, value }).collect();
        // Stable: equal counts stay in the order of names.
        counts.sort_by_key(|count| std::cmp::Reverse(count.value));
        counts.truncate(limit);
        counts
    };
    Ok(success(&json!({
        "headStats": {
            "numSeries": series.len(), "numLabelPairs": pairs, "chunkCount": 0,
            "minTime": now_ms - RECENT_MS, "maxTime": now_ms,
        },
        "seriesCountByMetricName": top(counted.series_by_name),
        "labelValueCountByLabelName": top(counted.values_by_label),
        "memoryInBytesByLabelName": top(counted.bytes_by_label),
        "seriesCountByLabelValuePair": top(counted.series_by_pair),
    })))
}

/// What series are made of.
#[derive(Default)]
struct Counted {
    series_by_name: BTreeMap<String, usize>,
    series_by_pair: BTreeMap<String, usize>,
    values_by_label: BTreeMap<String, usize>,
    bytes_by_label: BTreeMap<String, usize>,
}

impl Counted {
    fn of(series: &[Labels]) -> Self {
        let mut counted = Self::default();
        for labels in series {
            *counted.series_by_name.entry(labels.name().to_owned()).or_default() += 1;
            for (name, value) in labels.iter() {
                let pair = format!("{name}={value}");
                let known = counted.series_by_pair.entry(pair).or_default();
                *known += 1;
                if *known == 1 {
                    *counted.values_by_label.entry(name.to_owned()).or_default() += 1;
                    *counted.bytes_by_label.entry(name.to_owned()).or_default() += value.len();
                }
            }
        }
        counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_counted_by_name_label_and_pair() {
        let series = [
            Labels::from_pairs([("__name__", "up"), ("job", "a")]),
            Labels::from_pairs([("__name__", "up"), ("job", "bb")]),
            Labels::from_pairs([("__name__", "x"), ("job", "a")]),
        ];
        let counted = Counted::of(&series);
        assert_eq!(counted.series_by_name["up"], 2);
        assert_eq!(counted.series_by_pair["job=a"], 2);
        assert_eq!(counted.values_by_label["job"], 2);
        assert_eq!(counted.bytes_by_label["job"], 3);
        assert_eq!(counted.series_by_pair.len(), 4);
    }
}
