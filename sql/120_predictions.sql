-- predictions: every prediction with the model that made it and the outcome that stands: the last one observed.
-- A condition on predicted_at or prediction_id reads only what can hold such rows.
-- Columns: prediction_id, predicted_at, name (of the model), version, environment, mode, external_id, input (JSON),
-- output, score, latency_ms, label (what proved true; null where it is not known), observed_at, correct (whether the
-- output is the label, as text or as numbers), dataset_id, row_key (JSON), deployment_id, version_id, recorded_at,
-- actor, tx.
-- Example: SELECT prediction_id, output, label FROM predictions WHERE predicted_at >= '2026-11-01' AND NOT correct
CREATE OR REPLACE VIEW predictions AS
WITH named AS (
    SELECT subject AS model_id, arg_min(value, event_id) AS name FROM standing_events WHERE kind = 'name' GROUP BY subject
), deployed AS (
    SELECT d.deployment_id, n.name, v.version, d.environment, d.mode
    FROM lake.deployments d
    LEFT JOIN lake.model_versions v USING (version_id)
    LEFT JOIN named n ON n.model_id = d.model_id
), known AS (
    SELECT prediction_id, max({'observed_at': observed_at, 'tx': tx, 'label': label}) AS last
    FROM lake.outcomes GROUP BY prediction_id
)
SELECT p.prediction_id, p.predicted_at, d.name, d.version, d.environment, d.mode, p.external_id, p.input, p.output,
    p.score, p.latency_ms, k.last.label AS label, k.last.observed_at AS observed_at,
    CASE WHEN p.output = k.last.label THEN true
        ELSE coalesce(TRY_CAST(p.output AS DOUBLE) = TRY_CAST(k.last.label AS DOUBLE), p.output = k.last.label) END
        AS correct,
    p.dataset_id, p.row_key, p.deployment_id, p.version_id, p.recorded_at, p.actor, p.tx
FROM lake.predictions p
LEFT JOIN deployed d USING (deployment_id)
LEFT JOIN known k ON k.prediction_id = p.prediction_id;
