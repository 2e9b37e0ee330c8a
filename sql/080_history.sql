-- history: every event in the order in which it reached this branch, superseded or not, in the registry's words.
-- Columns: recorded_at, landed_at, actor, kind, model, version, key, value, to_version (for an alias), reason, subject,
-- standing (whether nothing supersedes it), event_id, commit,
-- refused (why it has no force, where the lake is signed and it has none).
-- Example: SELECT landed_at, actor, key, to_version FROM history WHERE model = 'flight-delay' AND kind = 'alias'
CREATE OR REPLACE VIEW history AS
SELECT e.recorded_at, c.landed_at, e.actor, e.kind, n.name AS model, v.version, e.key, e.value,
    t.version AS to_version, e.reason, e.subject, s.event_id IS NOT NULL AS standing, e.event_id, c.commit,
    r.reason AS refused
FROM lake.events e
LEFT JOIN lake.commits c ON c.tx = e.tx
LEFT JOIN lake.model_versions v ON v.version_id = e.subject
LEFT JOIN lake.model_versions t ON e.kind = 'alias' AND t.version_id = e.value
LEFT JOIN (
    SELECT subject AS model_id, arg_min(value, event_id) AS name
    FROM standing_events WHERE kind = 'name' GROUP BY subject
) n ON n.model_id = coalesce(v.model_id, e.subject)
LEFT JOIN lake.refused r ON r.event_id = e.event_id AND r.tx = e.tx AND r.subject = e.subject AND r.kind = e.kind
    AND r.key = e.key AND r.value IS NOT DISTINCT FROM e.value AND r.prev = e.prev AND r.actor = e.actor
    AND r.recorded_at = e.recorded_at AND r.signature IS NOT DISTINCT FROM e.signature
LEFT JOIN standing_events s ON s.event_id = e.event_id AND r.event_id IS NULL
ORDER BY c.position, e.event_id;
