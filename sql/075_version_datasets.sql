-- version_datasets: which dataset versions, hidden ones included, each model version was trained on.
-- Columns: name (of the model), version, version_id, dataset, semver, dataset_id, dataset_commit.
-- Example: SELECT version, dataset, semver FROM version_datasets WHERE name = 'flight-delay' ORDER BY version
CREATE OR REPLACE VIEW version_datasets AS
SELECT DISTINCT v.name, v.version, v.version_id, d.name AS dataset, d.semver, d.dataset_id, c.commit AS dataset_commit
FROM lake.lineage l
ANTI JOIN hidden_transactions t ON t.tx = l.tx
JOIN model_versions v ON l.target = 'model:' || v.version_id
JOIN lake.datasets d ON l.source = 'dataset:' || d.dataset_id
LEFT JOIN lake.commits c ON c.tx = d.tx
WHERE l.relation = 'trained';
