-- approvals: who said that a version may enter a stage on which branch, and who took it back. Where two disagree, withdrawn
-- stands. Whether one counts, `headwater gates check` tells: by the roles of the policy, and on its branch alone.
-- Columns: name (of the model), version, stage, actor, given, branch, reason, since (when it reached this branch),
-- recorded_at, principal (`actor:NAME`, or the ID of a key), version_id, model_id, commit.
-- Example: SELECT name, version, stage, actor, branch FROM approvals WHERE given ORDER BY ALL
CREATE OR REPLACE VIEW approvals AS
WITH said AS (
    SELECT *, TRY_CAST(value AS JSON) AS result, coalesce((result ->> '$.given') = 'true', false) AS given,
        result ->> '$.branch' AS branch
    FROM standing_events
    WHERE kind = 'approval' AND value IS NOT NULL
), counting AS (
    SELECT DISTINCT ON (subject, key, branch) * FROM said ORDER BY given, event_id DESC
)
SELECT v.name, v.version, split_part(c.key, ' ', 1) AS stage, c.actor, c.given, c.branch, c.reason,
    c.landed_at AS since, c.recorded_at, substr(c.key, position(' ' IN c.key) + 1) AS principal, v.version_id, v.model_id,
    c.commit
FROM counting c
JOIN model_versions v ON v.version_id = c.subject;
