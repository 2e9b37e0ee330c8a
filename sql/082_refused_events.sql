-- refused_events: the events of a signed lake that have no force, with why: forged or copied ones, those of people without
-- the role, and those that were made for another branch, which a merge does not bring to force.
-- Columns: recorded_at (as the row says), actor (as the row says), kind, model, version, key, value, reason (why it has no
-- force), alarm (whether somebody should look into it), subject, event_id, tx, commit (of that transaction, if there is one).
-- Example: SELECT actor, kind, model, reason FROM refused_events WHERE alarm ORDER BY event_id
CREATE OR REPLACE VIEW refused_events AS
SELECT r.recorded_at, r.actor, r.kind, n.name AS model, v.version, r.key, r.value, r.reason, r.alarm, r.subject,
    r.event_id, r.tx, c.commit
FROM lake.refused r
LEFT JOIN (SELECT tx, min(commit) AS commit FROM lake.commits WHERE tx IS NOT NULL GROUP BY tx) c ON c.tx = r.tx
LEFT JOIN lake.model_versions v ON v.version_id = r.subject
LEFT JOIN (
    SELECT subject AS model_id, arg_min(value, event_id) AS name
    FROM standing_events WHERE kind = 'name' GROUP BY subject
) n ON n.model_id = coalesce(v.model_id, r.subject)
ORDER BY r.event_id;
