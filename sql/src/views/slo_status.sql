-- The newest value of every series of an SLO.
SELECT
    labels ->> 'slo' AS slo,
    name AS series,
    last_value(value ORDER BY timestamp) AS value,
    max(timestamp) AS timestamp,
    labels
FROM metrics
WHERE name LIKE 'slo:%'
GROUP BY name, labels
