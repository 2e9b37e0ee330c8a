-- serving: what serves where now.
-- Columns: environment, name (of the model), version, mode (live, canary or shadow), traffic (percent), deployment_id,
-- version_id, model_id, deployed_at, actor, commit.
-- Example: SELECT environment, name, version, mode, traffic FROM serving ORDER BY environment, name, traffic DESC
CREATE OR REPLACE VIEW serving AS
SELECT environment, name, version, mode, traffic, deployment_id, version_id, model_id, deployed_at, actor, commit
FROM deployments
WHERE live;
