SELECT run_id, name, experiment, status, started_at, ended_at, exit_status, params, metrics, tags, description, parent_run_id
FROM runs ORDER BY run_id
