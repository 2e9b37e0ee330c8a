SELECT environment, name, version, mode, traffic, deployment_id, version_id, model_id, deployed_at, actor, commit FROM serving ORDER BY deployment_id
