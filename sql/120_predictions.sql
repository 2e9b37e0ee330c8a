-- predictions: every prediction that was not reverted, with the model that made it and the outcome that stands: the last
-- one observed.
-- A condition on predicted_at, prediction_id, deployment_id or version_id reads only what can hold such rows. A query
-- that asks for no label reads no outcomes; one that does needs such a condition where there are very many.
-- Columns: prediction_id, predicted_at, name (of the model), version, environment, mode, external_id, input (JSON),
-- output, score, latency_ms, label (what proved true; null where it is not known), observed_at, correct (whether the
-- output is the label, as text or as numbers), dataset_id, row_key (JSON), deployment_id, version_id, recorded_at,
-- actor, commit.
-- Example: SELECT prediction_id, output, label FROM predictions WHERE predicted_at >= '2026-11-01' AND NOT correct
CREATE OR REPLACE VIEW predictions AS
WITH named AS (
    SELECT subject AS model_id, arg_min(value, event_id) AS name FROM standing_events WHERE kind = 'name' GROUP BY subject
), deployed AS (
    SELECT d.deployment_id, any_value(n.name) AS name, any_value(v.version) AS version,
        any_value(d.environment) AS environment, any_value(d.mode) AS mode
    FROM lake.deployments d
    LEFT JOIN lake.model_versions v USING (version_id)
    LEFT JOIN named n ON n.model_id = d.model_id
    GROUP BY d.deployment_id
), wrote AS (
    SELECT tx, any_value(commit) AS commit FROM lake.commits GROUP BY tx
), judged AS (
    -- Grouped by what conditions are likely to name: DuckDB carries these over the join below, which is on equality.
    -- The greatest is of columns of both tables, or it would be found for all outcomes before they are joined.
    SELECT q.prediction_id, q.predicted_at, q.deployment_id, q.version_id,
        max({'observed_at': o.observed_at, 'tx': o.tx, 'label': o.label, 'predicted_at': q.predicted_at}) AS last
    FROM lake.predictions q JOIN lake.outcomes o ON o.prediction_id = q.prediction_id
    ANTI JOIN hidden_transactions t ON t.tx = o.tx GROUP BY ALL
)
SELECT p.prediction_id, p.predicted_at, d.name, d.version, d.environment, d.mode, p.external_id, p.input, p.output,
    p.score, p.latency_ms, j.last.label AS label, j.last.observed_at AS observed_at,
    CASE WHEN p.output = j.last.label THEN true
        ELSE coalesce(TRY_CAST(p.output AS DOUBLE) = TRY_CAST(j.last.label AS DOUBLE), p.output = j.last.label) END
        AS correct,
    p.dataset_id, p.row_key, p.deployment_id, p.version_id, p.recorded_at, p.actor, w.commit
FROM lake.predictions p
ANTI JOIN hidden_transactions t ON t.tx = p.tx
LEFT JOIN deployed d ON d.deployment_id = p.deployment_id
LEFT JOIN wrote w ON w.tx = p.tx
LEFT JOIN judged j ON j.prediction_id = p.prediction_id AND j.predicted_at = p.predicted_at
    AND j.deployment_id = p.deployment_id AND j.version_id = p.version_id;
