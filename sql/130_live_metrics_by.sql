-- live_metrics_by(slice, since, until): how each deployment did each day (in UTC) on each value of a feature, by the
-- outcomes known so far. An empty slice is all predictions together. since and until may be left out; with them, only
-- the predictions of that time and their outcomes are read.
-- Columns: day, name (of the model), version, environment, mode, slice (the feature's value; null where it is missing),
-- predictions (how many), labelled (how many have an outcome), accuracy (of those), mean_score, mean_latency_ms,
-- p95_latency_ms, deployment_id, version_id.
-- Example: SELECT slice, accuracy FROM live_metrics_by('origin', since := '2026-11-01', until := '2026-11-02')
CREATE OR REPLACE MACRO live_metrics_by(slice, since := NULL, until := NULL) AS TABLE
WITH named AS (
    SELECT subject AS model_id, arg_min(value, event_id) AS name FROM standing_events WHERE kind = 'name' GROUP BY subject
), deployed AS (
    SELECT d.deployment_id, any_value(n.name) AS name, any_value(v.version) AS version,
        any_value(d.environment) AS environment, any_value(d.mode) AS mode
    FROM lake.deployments d
    LEFT JOIN lake.model_versions v USING (version_id)
    LEFT JOIN named n ON n.model_id = d.model_id
    GROUP BY d.deployment_id
), judged AS (
    -- One row a prediction, grouped by what conditions are likely to name; what is not asked for is not read.
    SELECT p.prediction_id, p.deployment_id, p.version_id,
        DATE '1970-01-01' + CAST(epoch_us(p.predicted_at) // 86400000000 AS INTEGER) AS day,
        any_value(p.output) AS output, any_value(p.score) AS score, any_value(p.latency_ms) AS latency_ms,
        any_value(json_extract_string(p.input, '$."' || nullif(slice, '') || '"')) AS value,
        -- Of columns of both tables, or it would be found for all outcomes before they are joined.
        arg_max(o.label, {'observed_at': o.observed_at, 'tx': o.tx, 'predicted_at': p.predicted_at}) AS label
    FROM lake.predictions p
    ANTI JOIN hidden_transactions t ON t.tx = p.tx
    LEFT JOIN (FROM lake.outcomes q ANTI JOIN hidden_transactions t ON t.tx = q.tx) o ON o.prediction_id = p.prediction_id
        -- An ID begins with its time: milliseconds in twelve hexadecimal digits, a hyphen after the eighth.
        AND (since IS NULL OR o.prediction_id >= regexp_replace(
            printf('%012x', epoch_ms(CAST(since AS TIMESTAMPTZ))), '(.{8})(.{4})', '\1-\2'))
        AND (until IS NULL OR o.prediction_id < regexp_replace(
            printf('%012x', epoch_ms(CAST(until AS TIMESTAMPTZ)) + 1), '(.{8})(.{4})', '\1-\2'))
    WHERE (since IS NULL OR p.predicted_at >= CAST(since AS TIMESTAMPTZ))
        AND (until IS NULL OR p.predicted_at < CAST(until AS TIMESTAMPTZ))
    GROUP BY ALL
), counted AS (
    SELECT day, deployment_id, version_id, value, count(*) AS predictions, count(label) AS labelled,
        avg(CASE WHEN output = label THEN 1.0 WHEN label IS NULL THEN NULL
            WHEN TRY_CAST(output AS DOUBLE) = TRY_CAST(label AS DOUBLE) THEN 1.0 ELSE 0.0 END) AS accuracy,
        avg(score) FILTER (WHERE NOT isnan(score)) AS mean_score, avg(latency_ms) AS mean_latency_ms,
        approx_quantile(latency_ms, 0.95) AS p95_latency_ms
    FROM judged GROUP BY ALL
)
SELECT c.day, d.name, d.version, d.environment, d.mode, c.value AS slice, c.predictions, c.labelled, c.accuracy,
    c.mean_score, c.mean_latency_ms, c.p95_latency_ms, c.deployment_id, c.version_id
FROM counted c
LEFT JOIN deployed d ON d.deployment_id = c.deployment_id;
