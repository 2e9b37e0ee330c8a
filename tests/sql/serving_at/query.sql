SELECT environment, name, version, mode, traffic, deployment_id, version_id, model_id, deployed_at, actor, commit FROM serving_at(TIMESTAMPTZ '2026-11-05 09:00:00Z') ORDER BY deployment_id
