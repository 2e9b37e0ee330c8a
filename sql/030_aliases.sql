-- aliases: the aliases of every model and the version behind each, as they stand now.
-- Columns: name (of the model), alias, version, version_id, model_id, recorded_at, actor, reason, commit.
-- Example: SELECT name, alias, version FROM aliases
CREATE OR REPLACE VIEW aliases AS
SELECT m.name, e.key AS alias, v.version, v.version_id, v.model_id, e.recorded_at, e.actor, e.reason, e.commit
FROM standing_events e
JOIN lake.model_versions v ON v.version_id = e.value
JOIN model_names m ON m.model_id = e.subject
WHERE e.kind = 'alias'
QUALIFY row_number() OVER (PARTITION BY e.subject, e.key, e.value ORDER BY e.event_id) = 1;
