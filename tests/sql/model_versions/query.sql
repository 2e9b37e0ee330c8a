SELECT name, version, commit, stage, aliases, digest, size, description, params, tags, run_id
FROM model_versions
ORDER BY name, version
