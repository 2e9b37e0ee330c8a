-- policies: the gates that hold now, as TOML: of models, of patterns of their names, of datasets. All that match a model
-- hold together.
-- Columns: subject (`pattern:GLOB` or `dataset:NAME`; of a model, its name), name (of the model; null for the others),
-- text, digest (sha256), since (when it reached this branch), recorded_at, actor, reason, model_id, commit.
-- Example: SELECT subject, actor, text FROM policies ORDER BY subject
CREATE OR REPLACE VIEW policies AS
SELECT coalesce(n.name, e.subject) AS subject, n.name, e.value AS text, sha256(e.value) AS digest, e.landed_at AS since,
    e.recorded_at, e.actor, e.reason, n.model_id, e.commit
FROM standing_events e
LEFT JOIN model_names n ON n.model_id = e.subject
WHERE e.kind = 'policy' AND e.value IS NOT NULL
    AND (n.model_id IS NOT NULL OR starts_with(e.subject, 'pattern:') OR starts_with(e.subject, 'dataset:'));
