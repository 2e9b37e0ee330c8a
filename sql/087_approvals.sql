-- approvals: who said that a version may enter a stage on which branch, and who took it back. What was said on one branch
-- replaces nothing that was said on another; where two of one branch disagree, withdrawn stands. Whether one counts,
-- `headwater gates check` tells: by the roles of the policy, and on its branch alone.
-- Columns: name (of the model), version, stage, actor, given, branch, reason, since (when it reached this branch),
-- recorded_at, principal (`actor:NAME`, or the ID of a key), version_id, model_id, commit.
-- Example: SELECT name, version, stage, actor, branch FROM approvals WHERE given ORDER BY ALL
CREATE OR REPLACE VIEW approvals AS
WITH RECURSIVE said AS (
    SELECT *, TRY_CAST(value AS JSON) AS result, coalesce((result ->> '$.given') = 'true', false) AS given,
        result ->> '$.branch' AS branch
    FROM honoured_events
    WHERE kind = 'approval'
), next AS (
    SELECT unnest(prev) AS event_id, event_id AS later FROM said
), after AS (
    SELECT event_id, later FROM next
    UNION
    SELECT a.event_id, n.later FROM after a JOIN next n ON n.event_id = a.later
), replaced AS (
    SELECT a.event_id
    FROM after a
    JOIN said s ON s.event_id = a.event_id
    JOIN said l ON l.event_id = a.later
    WHERE l.value IS NULL OR l.branch IS NOT DISTINCT FROM s.branch
), counting AS (
    SELECT DISTINCT ON (subject, key, branch) s.*
    FROM said s
    ANTI JOIN replaced r ON r.event_id = s.event_id
    WHERE s.value IS NOT NULL
    ORDER BY s.given, s.event_id DESC
)
SELECT v.name, v.version, split_part(a.key, ' ', 1) AS stage, a.actor, a.given, a.branch, a.reason, c.landed_at AS since,
    a.recorded_at, substr(a.key, position(' ' IN a.key) + 1) AS principal, v.version_id, v.model_id, c.commit
FROM counting a
JOIN model_versions v ON v.version_id = a.subject
LEFT JOIN lake.commits c ON c.tx = a.tx;
