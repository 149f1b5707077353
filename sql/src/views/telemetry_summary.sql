-- What was done, how often, how well and how fast: spans by their name, and logs that say in an attribute which action they speak of.
WITH done AS (
    SELECT
        name AS action,
        timestamp,
        status IS DISTINCT FROM 'ERROR' AS succeeded,
        duration_ns / 1e6 AS duration_ms
    FROM spans
    WHERE name IS NOT NULL
    UNION ALL
    SELECT
        attributes['action'] AS action,
        timestamp,
        CASE lower(coalesce(attributes['success'], attributes['outcome'], attributes['status']))
            WHEN 'true' THEN true WHEN '1' THEN true WHEN 'yes' THEN true WHEN 'ok' THEN true WHEN 'success' THEN true WHEN 'succeeded' THEN true
            WHEN 'false' THEN false WHEN '0' THEN false WHEN 'no' THEN false WHEN 'error' THEN false WHEN 'failure' THEN false WHEN 'failed' THEN false
            ELSE level IS NULL OR level NOT IN ('ERROR', 'CRITICAL')
        END AS succeeded,
        coalesce(
            try_cast(attributes['duration_ms'] AS DOUBLE),
            try_cast(attributes['latency_ms'] AS DOUBLE),
            try_cast(attributes['duration_seconds'] AS DOUBLE) * 1000
        ) AS duration_ms
    FROM logs
    WHERE attributes['action'] IS NOT NULL
)
SELECT
    action,
    count(*) AS count,
    count(*) FILTER (WHERE NOT succeeded) AS failures,
    avg(CASE WHEN succeeded THEN 1.0 ELSE 0.0 END) AS success_rate,
    avg(duration_ms) AS avg_ms,
    approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_ms) AS p50_ms,
    approx_percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms) AS p95_ms,
    approx_percentile_cont(0.99) WITHIN GROUP (ORDER BY duration_ms) AS p99_ms,
    min(timestamp) AS first_seen,
    max(timestamp) AS last_seen
FROM done
GROUP BY action
