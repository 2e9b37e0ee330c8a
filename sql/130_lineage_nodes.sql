-- lineage_nodes: everything with a place in the lineage but predictions, which are too many, and objects.
-- Columns: urn (with names and numbers), node (as lake.lineage has it, with IDs; `models:ID` is a model itself), kind,
-- id, name, version (number or semantic version), commit (at which path is read), path, digest, rows, predictions (that
-- a deployment, or the deployments of a version, made), deleted (whether it is hidden; of code null).
-- Example: SELECT urn, rows, commit FROM lineage_nodes WHERE kind = 'dataset' ORDER BY urn
CREATE OR REPLACE VIEW lineage_nodes AS
WITH named AS (
    SELECT subject AS model_id, arg_min(value, event_id) AS name,
        CASE WHEN regexp_full_match(arg_min(value, event_id), '[a-z0-9][a-z0-9._-]{0,127}')
            THEN arg_min(value, event_id) ELSE '"' || arg_min(value, event_id) || '"' END AS written
    FROM standing_events WHERE kind = 'name' GROUP BY subject
), taken AS (
    SELECT b.deployment_id, b.digest, max(b.rows) AS rows FROM lake.batches b
    ANTI JOIN hidden_transactions t ON t.tx = b.tx GROUP BY ALL
), gone AS (
    SELECT id FROM hidden
), counted AS (
    SELECT d.deployment_id, any_value(d.version_id) AS version_id, sum(b.rows) AS predictions
    FROM lake.deployments d LEFT JOIN taken b ON b.deployment_id = d.deployment_id GROUP BY d.deployment_id
), of_version AS (
    SELECT version_id, sum(predictions) AS predictions FROM counted GROUP BY version_id
)
SELECT 'model:' || n.written || '/' || v.version AS urn, 'model:' || v.version_id AS node, 'model' AS kind,
    v.version_id AS id, n.name, CAST(v.version AS VARCHAR) AS version, c.commit, v.path, v.digest,
    CAST(NULL AS BIGINT) AS rows, CAST(coalesce(o.predictions, 0) AS BIGINT) AS predictions,
    v.version_id IN (FROM gone) OR v.model_id IN (FROM gone) AS deleted
FROM lake.model_versions v
LEFT JOIN named n ON n.model_id = v.model_id
LEFT JOIN of_version o ON o.version_id = v.version_id
LEFT JOIN lake.commits c ON c.tx = v.tx
UNION ALL
SELECT 'model:' || n.written, 'models:' || m.model_id, 'model', m.model_id, n.name, NULL, NULL, NULL, NULL, NULL, NULL,
    m.model_id IN (FROM gone)
FROM lake.models m
LEFT JOIN named n ON n.model_id = m.model_id
UNION ALL
SELECT 'dataset:' || CASE WHEN regexp_full_match(d.name, '[a-z0-9][a-z0-9._-]{0,127}') THEN d.name
        ELSE '"' || d.name || '"' END || '@' || d.semver,
    'dataset:' || d.dataset_id, 'dataset', d.dataset_id, d.name, d.semver, coalesce(d.data_commit, c.commit), d.path,
    d.digest, d.rows, NULL, d.dataset_id IN (FROM gone)
FROM lake.datasets d
LEFT JOIN lake.commits c ON c.tx = d.tx
UNION ALL
SELECT 'run:' || r.run_id, 'run:' || r.run_id, 'run', r.run_id, r.name, NULL, c.commit, NULL, NULL, NULL, NULL,
    r.run_id IN (FROM gone)
FROM lake.runs r
LEFT JOIN lake.commits c ON c.tx = r.tx
UNION ALL
SELECT 'deployment:' || d.deployment_id, 'deployment:' || d.deployment_id, 'deployment', d.deployment_id,
    d.environment, NULL, c.commit, NULL, NULL, NULL, CAST(coalesce(k.predictions, 0) AS BIGINT),
    d.deployment_id IN (FROM gone)
FROM lake.deployments d
LEFT JOIN counted k ON k.deployment_id = d.deployment_id
LEFT JOIN lake.commits c ON c.tx = d.tx
UNION ALL
SELECT l.source, l.source, 'code', regexp_extract(l.source, '@([^@]*)$', 1),
    regexp_extract(l.source, '^code:(.*)@[^@]*$', 1), NULL, regexp_extract(l.source, '@([^@]*)$', 1), NULL, NULL, NULL,
    NULL, NULL
FROM (
    SELECT DISTINCT e.source FROM lake.lineage e ANTI JOIN hidden_transactions t ON t.tx = e.tx
    WHERE starts_with(e.source, 'code:')
) l;
