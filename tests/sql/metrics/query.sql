SELECT name, version, key, value, step, dataset_id, source FROM metrics ORDER BY name, version, key, dataset_id NULLS FIRST
