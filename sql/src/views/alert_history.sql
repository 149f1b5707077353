-- How long each alert was in each of its states: a transition, and the next one of the same alert.
SELECT
    timestamp,
    alertname,
    group_name,
    state,
    lag(state) OVER (PARTITION BY fingerprint ORDER BY timestamp, _partition, _offset) AS previous_state,
    lead(timestamp) OVER (PARTITION BY fingerprint ORDER BY timestamp, _partition, _offset) AS until,
    (arrow_cast(lead(timestamp) OVER (PARTITION BY fingerprint ORDER BY timestamp, _partition, _offset), 'Int64')
        - arrow_cast(timestamp, 'Int64')) / 1e6 AS duration_seconds,
    labels,
    annotations,
    value,
    starts_at,
    ends_at,
    fingerprint
FROM alerts
