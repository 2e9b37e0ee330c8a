-- version_lineage: what each model version came from, deleted ones included: its run, its datasets, its code.
-- Columns: version_id, name (of the model), version, model_id, commit, deleted, run_id, datasets (a list of dataset,
-- semver, dataset_id, commit, path, digest, rows: what it, or the run that made it, learned from), repository,
-- code_commit, branch, dirty, patch.
-- Example: SELECT version, code_commit, dirty, [d.semver FOR d IN datasets] AS data FROM version_lineage ORDER BY ALL
CREATE OR REPLACE VIEW version_lineage AS
WITH edges AS (
    SELECT l.source, l.relation, l.target FROM lake.lineage l ANTI JOIN hidden_transactions t ON t.tx = l.tx
), named AS (
    SELECT subject AS model_id, arg_min(value, event_id) AS name
    FROM standing_events WHERE kind = 'name' GROUP BY subject
), made AS (
    SELECT target AS node, min(substr(source, 5)) AS run_id
    FROM edges WHERE relation = 'produced' AND starts_with(source, 'run:') GROUP BY target
), learned AS (
    SELECT target AS node, substr(source, 9) AS dataset_id FROM edges WHERE relation = 'trained'
    UNION
    SELECT m.node, substr(l.source, 9) FROM made m JOIN edges l ON l.target = 'run:' || m.run_id
    WHERE l.relation = 'used'
), data AS (
    SELECT l.node, list({'dataset': d.name, 'semver': d.semver, 'dataset_id': d.dataset_id,
        'commit': coalesce(d.data_commit, c.commit), 'path': d.path, 'digest': d.digest, 'rows': d.rows}
        ORDER BY d.name, d.dataset_id) AS datasets
    FROM learned l
    JOIN lake.datasets d ON d.dataset_id = l.dataset_id
    LEFT JOIN lake.commits c ON c.tx = d.tx
    GROUP BY l.node
)
SELECT v.version_id, n.name, v.version, v.model_id, c.commit,
    v.version_id IN (SELECT id FROM hidden) OR v.model_id IN (SELECT id FROM hidden) AS deleted,
    coalesce(v.run_id, m.run_id) AS run_id, coalesce(d.datasets, []) AS datasets,
    v.code.repository AS repository, v.code.commit AS code_commit, v.code.branch AS branch, v.code.dirty AS dirty,
    v.code.patch AS patch
FROM lake.model_versions v
LEFT JOIN named n ON n.model_id = v.model_id
LEFT JOIN made m ON m.node = 'model:' || v.version_id
LEFT JOIN data d ON d.node = 'model:' || v.version_id
LEFT JOIN lake.commits c ON c.tx = v.tx;
