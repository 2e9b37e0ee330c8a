-- notifications: what actions had or have to tell, one row a thing and action: what was delivered or given up, and what
-- stands of it in the outbox still.
-- Columns: happened_at (when it reached this branch), name (of the model), version, event (promoted, refused, rolled-back,
-- traffic or approved), action, branch (that the action is for; `pending` counts there alone), status (delivered, failed,
-- waiting: a try failed and another one comes; or pending), tries, error (of the last try), next_try_at, tried_at (when the
-- last try was recorded), actor (of what happened), reason, commit, model_id, version_id, tx.
-- Example: SELECT name, version, event, action, status, tries, error FROM notifications ORDER BY happened_at DESC
CREATE OR REPLACE VIEW notifications AS
WITH landed AS (
    SELECT tx, min(position) AS position, arg_min(commit, position) AS commit, arg_min(kind, position) AS kind,
        arg_min(actor, position) AS actor, arg_min(landed_at, position) AS landed_at,
        arg_min(recorded_at, position) AS recorded_at
    FROM lake.commits WHERE tx IS NOT NULL GROUP BY tx
), merged AS (
    SELECT position, tx FROM landed WHERE kind = 'merge'
), decided AS (
    SELECT e.*, l.position, l.commit, l.kind AS done, l.landed_at, l.recorded_at AS made_at, l.actor AS by_whom,
        coalesce(v.model_id, e.subject) AS model_id, v.version,
        {'p': l.position, 'm': l.recorded_at, 't': e.tx} AS place
    FROM honoured_events e JOIN landed l USING (tx) LEFT JOIN lake.model_versions v ON v.version_id = e.subject
    WHERE e.kind IN ('stage', 'traffic', 'refusal', 'approval')
), overruled AS (
    -- superseded by what landed with it, so that it never stood on this branch
    SELECT d.event_id FROM decided d
    JOIN (SELECT unnest(prev) AS event_id, position FROM decided) o ON o.event_id = d.event_id AND o.position = d.position
), live AS (
    SELECT d.*, EXISTS (
        SELECT 1 FROM decided p WHERE p.kind = 'stage' AND p.value = 'production' AND list_contains(d.prev, p.event_id)
    ) AS was_in_production
    FROM decided d ANTI JOIN overruled USING (event_id)
), entered AS (
    SELECT tx, model_id FROM live WHERE kind = 'stage' AND value = 'production'
), happened AS (
    SELECT tx, model_id, 'rolled-back' AS event, max(version) FILTER (value = 'production') AS version,
        max(subject) FILTER (value = 'production') AS version_id, any_value(reason) AS reason, NULL AS only_branch
    FROM live
    WHERE done IN ('rollback', 'revert') AND ((kind = 'traffic' AND key = 'production')
        OR (kind = 'stage' AND (value = 'production' OR was_in_production)))
    GROUP BY tx, model_id
    UNION ALL
    SELECT tx, model_id, 'promoted', version, subject, reason, NULL FROM live
    WHERE kind = 'stage' AND value IN ('staging', 'production') AND done NOT IN ('rollback', 'revert')
        AND version IS NOT NULL
    UNION ALL
    SELECT l.tx, l.model_id, 'traffic', NULL, NULL, l.reason, NULL FROM live l ANTI JOIN entered USING (tx, model_id)
    WHERE l.kind = 'traffic' AND l.key = 'production' AND l.done NOT IN ('rollback', 'revert')
    UNION ALL
    SELECT l.tx, l.model_id, if(l.kind = 'refusal', 'refused', 'approved'), l.version, l.subject, l.reason,
        if(l.kind = 'approval', CASE WHEN json_valid(l.value) THEN (l.value ->> '$.branch') END, NULL)
    FROM live l LEFT JOIN merged m ON m.position = l.position AND m.tx <> l.tx
    WHERE m.tx IS NULL AND l.version IS NOT NULL AND (l.kind = 'refusal'
        OR (l.kind = 'approval' AND CASE WHEN json_valid(l.value) THEN (l.value ->> '$.given') = 'true' END))
), kept AS (
    SELECT e.subject, e.key AS action, e.event_id, e.value, coalesce(l.position, 0) AS position,
        s.event_id IS NOT NULL AS standing
    FROM honoured_events e LEFT JOIN landed l USING (tx) LEFT JOIN standing_events s ON s.event_id = e.event_id
    WHERE e.kind = 'action'
), ended AS (
    SELECT subject, action, max({'p': position, 'e': event_id}) AS newest FROM kept WHERE value IS NULL GROUP BY ALL
), actions AS (
    SELECT k.subject, k.action, max(k.value) FILTER (k.event_id = n.event_id) AS value,
        bool_or(k.standing AND k.value IS NOT NULL) AND NOT bool_or(k.standing AND k.value IS NULL) AS stands,
        min(k.position) FILTER (
            k.value IS NOT NULL AND (g.newest IS NULL OR {'p': k.position, 'e': k.event_id} > g.newest)
        ) AS start
    FROM kept k LEFT JOIN ended g USING (subject, action)
    JOIN (
        SELECT subject, action, max(event_id) AS event_id FROM kept WHERE value IS NOT NULL GROUP BY ALL
    ) n USING (subject, action)
    GROUP BY k.subject, k.action
), named AS (
    SELECT subject AS model_id, value AS name FROM honoured_events WHERE kind = 'name'
), wanted AS (
    SELECT a.*, CASE WHEN json_valid(value) THEN (value ->> '$.branch') END AS branch,
        CASE WHEN json_valid(value) THEN try_cast(value -> '$.on' AS VARCHAR[]) END AS told
    FROM actions a
), tried AS (
    SELECT e.subject, e.key AS model_id, e.event_id, e.value, l.landed_at AS tried_at, (e.value ->> '$.tx') AS tx
    FROM honoured_events e LEFT JOIN landed l ON l.tx = e.tx
    WHERE e.kind = 'delivered' AND CASE WHEN json_valid(e.value) THEN json_type(e.value) = 'OBJECT' END
), results AS (
    SELECT subject, model_id, tx, arg_max(value, event_id) AS value, max(tried_at) AS tried_at FROM tried
    GROUP BY subject, model_id, tx
), cursors AS (
    SELECT r.subject, r.model_id, max({'p': l.position, 'm': l.recorded_at, 't': l.tx}) AS place
    FROM results r JOIN landed l USING (tx) WHERE (r.value ->> '$.outcome') <> 'waiting' GROUP BY r.subject, r.model_id
), paired AS (
    SELECT w.subject || ' ' || w.action AS cursor, w.action, w.branch, w.stands, w.start, h.*
    FROM wanted w JOIN happened h
        ON list_contains(w.told, h.event) AND (h.only_branch IS NULL OR h.only_branch = w.branch)
        AND (h.model_id = w.subject OR (starts_with(w.subject, 'pattern:') AND EXISTS (
            SELECT 1 FROM named n WHERE n.model_id = h.model_id AND n.name GLOB substr(w.subject, 9))))
)
SELECT l.landed_at AS happened_at, m.name, p.version, p.event, p.action, p.branch,
    coalesce((r.value ->> '$.outcome'), 'pending') AS status, coalesce(try_cast((r.value ->> '$.tries') AS BIGINT), 0) AS tries,
    (r.value ->> '$.error') AS error, make_timestamptz(try_cast((r.value ->> '$.next') AS BIGINT)) AS next_try_at, r.tried_at,
    l.actor, p.reason, l.commit, p.model_id, p.version_id, p.tx
FROM paired p JOIN landed l USING (tx)
LEFT JOIN results r ON r.subject = p.cursor AND r.model_id = p.model_id AND r.tx = p.tx
LEFT JOIN cursors c ON c.subject = p.cursor AND c.model_id = p.model_id
LEFT JOIN (
    SELECT subject AS model_id, arg_min(value, event_id) AS name FROM standing_events WHERE kind = 'name' GROUP BY subject
) m ON m.model_id = p.model_id
WHERE r.tx IS NOT NULL OR (p.stands AND l.position > p.start
    AND (c.place IS NULL OR {'p': l.position, 'm': l.recorded_at, 't': l.tx} > c.place));
