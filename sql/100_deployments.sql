-- deployments: every deployment that is not hidden, of deleted models too, with what it gets now, or when and by whom it was ended.
-- Columns: deployment_id, name (of the model), version, environment, mode (live, canary or shadow), traffic (percent of
-- the environment's requests that it gets now; null where it serves no more), live (whether it serves now, in whatever
-- mode), deployed_at (when it reached this branch), ended_at, ended_by, reason (that was given when it was deployed),
-- actor, version_id, model_id, recorded_at, commit.
-- Example: SELECT name, version, environment, mode, traffic, live FROM deployments ORDER BY deployed_at
CREATE OR REPLACE VIEW deployments AS
WITH happened AS (
    SELECT e.event_id, e.subject, e.key, e.value, e.actor, e.reason, c.position, c.landed_at
    FROM honoured_events e LEFT JOIN lake.commits c ON c.tx = e.tx WHERE e.kind = 'traffic'
), listed AS (
    SELECT h.event_id, h.subject, h.key, h.position, h.reason, x.one.deployment_id AS deployment_id,
        x.one.percent AS percent
    FROM happened h, unnest(from_json(h.value, '[{"deployment_id": "VARCHAR", "percent": "DOUBLE"}]')) AS x(one)
), standing AS (
    SELECT deployment_id, max(percent) AS percent FROM listed
    WHERE event_id IN (SELECT event_id FROM standing_events WHERE kind = 'traffic') GROUP BY deployment_id
), span AS (
    SELECT deployment_id, any_value(subject) AS subject, any_value(key) AS key,
        max({'p': position, 'e': event_id}) AS newest, arg_min_null(reason, {'p': position, 'e': event_id}) AS reason
    FROM listed GROUP BY deployment_id
), ended AS (
    SELECT s.deployment_id, arg_min(h.landed_at, {'p': h.position, 'e': h.event_id}) AS ended_at,
        arg_min(h.actor, {'p': h.position, 'e': h.event_id}) AS ended_by
    FROM span s JOIN happened h
        ON h.subject = s.subject AND h.key = s.key AND {'p': h.position, 'e': h.event_id} > s.newest
    WHERE s.deployment_id NOT IN (SELECT deployment_id FROM standing) GROUP BY s.deployment_id
), named AS (
    SELECT subject AS model_id, arg_min(value, event_id) AS name FROM standing_events WHERE kind = 'name' GROUP BY subject
)
SELECT d.deployment_id, n.name, v.version, d.environment, d.mode, t.percent AS traffic,
    t.deployment_id IS NOT NULL AS live, c.landed_at AS deployed_at, x.ended_at, x.ended_by, s.reason, d.actor,
    d.version_id, d.model_id, d.recorded_at, c.commit
FROM lake.deployments d
LEFT JOIN lake.model_versions v USING (version_id)
LEFT JOIN named n ON n.model_id = d.model_id
LEFT JOIN standing t ON t.deployment_id = d.deployment_id
LEFT JOIN span s ON s.deployment_id = d.deployment_id
LEFT JOIN ended x ON x.deployment_id = d.deployment_id
LEFT JOIN lake.commits c ON c.tx = d.tx
WHERE d.deployment_id NOT IN (SELECT id FROM hidden);
