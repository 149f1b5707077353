//! The rollups that there are without being asked for. They are rollups like any other: a definition in the log, a topic, a table.

use super::RollupConfig;

/// A correction is cheap for an hour; a later row of these is in the raw table and counted.
const HORIZON_MS: i64 = 60 * 60 * 1_000;

/// Name and query of each, those that read another behind it. What a series is called is part of its group and no aggregate: an aggregate of texts costs each batch a look at every
/// group there is.
const ALL: [(&str, &str); 4] = [
    (
        "log_volume_1m",
        "SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, service, level,
       count(*) AS logs, sum(octet_length(message)) AS size_bytes
FROM logs GROUP BY 1, 2, 3",
    ),
    (
        "log_red_1m",
        "SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, service,
       count(*) AS requests,
       count(*) FILTER (WHERE level IN ('ERROR', 'CRITICAL')
           OR TRY_CAST(coalesce(attributes['status'], attributes['status_code'], attributes['http.status_code'],
                                attributes['http.response.status_code']) AS BIGINT) >= 500) AS errors,
       sum(TRY_CAST(coalesce(attributes['duration_ms'], attributes['latency_ms'], attributes['elapsed_ms']) AS DOUBLE)) AS duration_ms_sum,
       max(TRY_CAST(coalesce(attributes['duration_ms'], attributes['latency_ms'], attributes['elapsed_ms']) AS DOUBLE)) AS duration_ms_max,
       quantile(TRY_CAST(coalesce(attributes['duration_ms'], attributes['latency_ms'], attributes['elapsed_ms']) AS DOUBLE), 0.5) AS duration_ms_p50,
       quantile(TRY_CAST(coalesce(attributes['duration_ms'], attributes['latency_ms'], attributes['elapsed_ms']) AS DOUBLE), 0.95) AS duration_ms_p95,
       quantile(TRY_CAST(coalesce(attributes['duration_ms'], attributes['latency_ms'], attributes['elapsed_ms']) AS DOUBLE), 0.99) AS duration_ms_p99
FROM logs
WHERE coalesce(attributes['duration_ms'], attributes['latency_ms'], attributes['elapsed_ms']) IS NOT NULL
GROUP BY 1, 2",
    ),
    (
        "metrics_1m",
        "SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, series_id, name, labels,
       min(value) AS min, max(value) AS max, sum(value) AS sum, count(value) AS count, last(value) AS last
FROM metrics WHERE value IS NOT NULL GROUP BY 1, 2, 3, 4",
    ),
    (
        "metrics_1h",
        "SELECT tumble(window_start, INTERVAL '1 hour') AS window_start, series_id, name, labels,
       min(min) AS min, max(max) AS max, sum(sum) AS sum, sum(count) AS count, last(last, window_start) AS last
FROM metrics_1m GROUP BY 1, 2, 3, 4",
    ),
];

/// The names of all of them.
pub fn built_in_names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|(name, _)| *name)
}

/// The built-in rollups of these names, but for those whose name `taken` has for something else, and those that read one of them.
pub fn built_in(wanted: impl Fn(&str) -> bool, taken: impl Fn(&str) -> bool) -> Vec<RollupConfig> {
    let mut rollups: Vec<RollupConfig> = Vec::new();
    for (name, sql) in ALL {
        let reads = ALL.iter().map(|(other, _)| *other).find(|other| super::reads(sql, other));
        let readable = reads.is_none_or(|below| rollups.iter().any(|rollup| rollup.name == below));
        if wanted(name) && !taken(name) && readable {
            rollups.push(RollupConfig { correction_horizon_ms: HORIZON_MS, ..RollupConfig::new(name, sql) });
        }
    }
    rollups
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{ProcessorsConfig, topology};

    #[test]
    fn all_of_them_can_be_run() {
        let rollups = built_in(|_| true, |_| false);
        let names: Vec<&str> = rollups.iter().map(|rollup| rollup.name.as_str()).collect();
        assert_eq!(names, built_in_names().collect::<Vec<_>>());
        topology(&ProcessorsConfig { rollups, ..ProcessorsConfig::default() }).unwrap();
    }

    #[test]
    fn a_name_that_is_taken_is_left_out_with_what_reads_it() {
        let names = |rollups: Vec<RollupConfig>| rollups.into_iter().map(|rollup| rollup.name).collect::<Vec<_>>();
        assert_eq!(names(built_in(|_| true, |name| name == "metrics_1m")), ["log_volume_1m", "log_red_1m"]);
        assert_eq!(names(built_in(|name| name == "metrics_1m", |_| false)), ["metrics_1m"]);
        assert_eq!(names(built_in(|name| name == "metrics_1h", |_| false)), [""; 0]);
    }
}
