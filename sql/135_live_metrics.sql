-- live_metrics: how each deployment did each day (in UTC), by the outcomes known so far.
-- A condition on day joins only that day's predictions; live_metrics_by('', since, until) does not even look at others.
-- Columns: day, name (of the model), version, environment, mode, predictions (how many), labelled (how many have an
-- outcome), accuracy (of those), mean_score, mean_latency_ms, p95_latency_ms, deployment_id, version_id.
-- Example: SELECT day, version, mode, predictions, accuracy FROM live_metrics WHERE name = 'flight-delay' ORDER BY ALL
CREATE OR REPLACE VIEW live_metrics AS
SELECT day, name, version, environment, mode, predictions, labelled, accuracy, mean_score, mean_latency_ms,
    p95_latency_ms, deployment_id, version_id
FROM live_metrics_by('');
