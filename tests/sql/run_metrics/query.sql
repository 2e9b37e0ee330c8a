SELECT run_id, key, slice, value, step, dataset_id, source, recorded_at, actor FROM run_metrics ORDER BY run_id, key, slice, dataset_id
