-- checks: the named results that were recorded for versions, such as those of integration tests. Where two branches
-- recorded one differently, a failure stands.
-- Columns: name (of the model), version, check_name, passed, url, detail, since (when it reached this branch), recorded_at,
-- actor, version_id, model_id, commit.
-- Example: SELECT name, version, check_name, passed, url FROM checks ORDER BY ALL
CREATE OR REPLACE VIEW checks AS
WITH said AS (
    SELECT *, TRY_CAST(value AS JSON) AS result, coalesce((result ->> '$.passed') = 'true', false) AS passed
    FROM standing_events
    WHERE kind = 'check' AND value IS NOT NULL
), counting AS (
    SELECT DISTINCT ON (subject, key) * FROM said ORDER BY passed, event_id DESC
)
SELECT v.name, v.version, c.key AS check_name, c.passed, c.result ->> '$.url' AS url, c.result ->> '$.detail' AS detail,
    c.landed_at AS since, c.recorded_at, c.actor, v.version_id, v.model_id, c.commit
FROM counting c
JOIN model_versions v ON v.version_id = c.subject;
