-- production_models: the versions that are in production now.
-- Columns: name (of the model), version, since (when that reached this branch), actor (who put it there), reason, aliases,
-- digest, run_id, version_id, model_id, commit (that the version was registered in).
-- Example: SELECT name, version, since, actor FROM production_models
CREATE OR REPLACE VIEW production_models AS
SELECT v.name, v.version, s.since, s.actor, s.reason, v.aliases, v.digest, v.run_id, v.version_id, v.model_id, v.commit
FROM model_versions v
JOIN stages s USING (version_id)
WHERE v.stage = 'production'
ORDER BY v.name, v.version;
