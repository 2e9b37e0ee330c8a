-- prediction_lineage: every prediction that was not reverted, with what it came from: deployment, model version, run, datasets, code.
-- Ask for one by prediction_id, or for some by predicted_at or deployment_id: files that can't hold them are not read.
-- Columns: prediction_id, predicted_at, external_id, output, score, deployment_id, environment, mode, name (of the
-- model), version, version_id, commit (of the version), deleted (whether the version is), run_id, datasets (a list of
-- dataset, semver, dataset_id, commit, path, digest, rows), repository, code_commit, branch, dirty, patch, input,
-- dataset_id, row_key, latency_ms.
-- Example: SELECT version, mode, run_id, code_commit, unnest(datasets).semver AS data FROM prediction_lineage
-- WHERE external_id = 'UA1545' ORDER BY predicted_at, version
CREATE OR REPLACE VIEW prediction_lineage AS
SELECT p.prediction_id, p.predicted_at, p.external_id, p.output, p.score, p.deployment_id, d.environment, d.mode,
    v.name, v.version, p.version_id, v.commit, v.deleted, v.run_id, v.datasets, v.repository, v.code_commit, v.branch,
    v.dirty, v.patch, p.input, p.dataset_id, p.row_key, p.latency_ms
FROM lake.predictions p
ANTI JOIN hidden_transactions t ON t.tx = p.tx
LEFT JOIN lake.deployments d ON d.deployment_id = p.deployment_id
LEFT JOIN version_lineage v ON v.version_id = p.version_id;
