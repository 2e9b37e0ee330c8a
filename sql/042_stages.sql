-- stages: the stage of every version that is not deleted: since when, by whom and why.
-- Columns: name (of the model), version, stage (`none` where it never entered one), since (when it reached this branch),
-- recorded_at, actor, reason, version_id, model_id, commit.
-- Example: SELECT name, version, stage, since, actor FROM stages WHERE stage <> 'none'
CREATE OR REPLACE VIEW stages AS
WITH entered AS (
    SELECT DISTINCT ON (subject) subject AS version_id, value AS stage, landed_at AS since, recorded_at, actor, reason, commit
    FROM standing_events
    WHERE kind = 'stage'
    ORDER BY event_id DESC
)
SELECT v.name, v.version, v.stage, e.since, e.recorded_at, e.actor, e.reason, v.version_id, v.model_id, e.commit
FROM model_versions v
LEFT JOIN entered e USING (version_id)
ORDER BY v.name, v.version;
