-- promotions: every time that a version entered a stage, in the order in which that reached this branch, with what its
-- gates found then. A rollback is one too; it asks no gates.
-- Columns: landed_at, recorded_at, actor, name (of the model), version, stage, was (the stage that it left), kind (as the
-- log calls the transaction: promote, stage, rollback, alias, deploy), gates (how many were asked), failed (names of
-- those that did not pass), override (why these were passed over), reason, standing (whether it is in that stage still),
-- version_id, model_id, event_id, commit.
-- Example: SELECT landed_at, name, version, kind, failed, override FROM promotions WHERE stage = 'production'
CREATE OR REPLACE VIEW promotions AS
WITH asked AS (
    SELECT tx, subject, split_part(key, ' ', 1) AS stage, count(*) AS gates,
        list(substr(key, strpos(key, ' ') + 1) ORDER BY key) FILTER (
            WHERE TRY_CAST(TRY(value ->> '$.passed') AS BOOLEAN) IS NOT TRUE) AS failed
    FROM honoured_events WHERE kind = 'gate' AND value IS NOT NULL GROUP BY ALL
), passed_over AS (
    SELECT tx, subject, key AS stage, any_value(value) AS reason
    FROM honoured_events WHERE kind = 'override' GROUP BY ALL
), entered AS (
    SELECT event_id, value, prev FROM honoured_events WHERE kind = 'stage'
), left_behind AS (
    SELECT x.event_id, min(p.value) AS stage
    FROM (SELECT event_id, unnest(prev) AS before FROM entered) x JOIN entered p ON p.event_id = x.before
    GROUP BY x.event_id
)
SELECT c.landed_at, e.recorded_at, e.actor, v.name, v.version, e.value AS stage,
    coalesce(l.stage, 'none') AS was, c.kind, coalesce(a.gates, 0) AS gates, coalesce(a.failed, []) AS failed, o.reason AS override, e.reason,
    s.event_id IS NOT NULL AS standing, e.subject AS version_id, v.model_id, e.event_id, c.commit
FROM honoured_events e
JOIN (
    SELECT m.version_id, m.model_id, m.version, n.name
    FROM lake.model_versions m LEFT JOIN model_names n USING (model_id)
) v ON v.version_id = e.subject
LEFT JOIN lake.commits c ON c.tx = e.tx
LEFT JOIN left_behind l ON l.event_id = e.event_id
LEFT JOIN asked a ON a.tx = e.tx AND a.subject = e.subject AND a.stage = e.value
LEFT JOIN passed_over o ON o.tx = e.tx AND o.subject = e.subject AND o.stage = e.value
LEFT JOIN standing_events s ON s.event_id = e.event_id
WHERE e.kind = 'stage' AND e.value IS NOT NULL
ORDER BY c.position, e.event_id;
