SELECT run_id, command, folder, code, environment, host, seeds, missing, recorded_at, actor, commit
FROM runs WHERE run_id < 'r3' ORDER BY run_id
