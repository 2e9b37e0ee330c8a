SELECT deployment_id, name, version, environment, mode, traffic, live, deployed_at, ended_at, ended_by, reason, actor,
    version_id, model_id, recorded_at, commit
FROM deployments ORDER BY deployment_id
