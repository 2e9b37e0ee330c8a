-- stage_at(model, moment): the stage of every version of a model at BRANCH@{moment}: as the branch had it, whatever any
-- clock said. Names and deletions are those of that moment.
-- Columns: model, version, stage (`none` where it had entered none), version_id, landed_at (since when; null where it
-- had entered none), actor, reason.
-- Example: SELECT version, stage FROM stage_at('flight-delay', TIMESTAMPTZ '2026-10-05 00:00:00Z')
CREATE OR REPLACE MACRO stage_at(model, moment) AS TABLE
WITH here AS (
    SELECT max(p.position) AS position FROM lake.commits p WHERE p.landed_at <= CAST(moment AS TIMESTAMPTZ)
), seen AS (
    SELECT e.event_id, e.subject, e.kind, e.value, e.prev, e.actor, e.reason, c.landed_at
    FROM honoured_events e
    JOIN lake.commits c ON c.tx = e.tx
    WHERE e.kind IN ('stage', 'name', 'tombstone') AND c.position <= (SELECT position FROM here)
), stood AS (
    SELECT * FROM seen WHERE event_id NOT IN (SELECT unnest(prev) FROM seen)
), named AS (
    SELECT subject, arg_min(value, event_id) AS name FROM stood WHERE kind = 'name' GROUP BY subject
), gone AS (
    SELECT subject FROM stood WHERE kind = 'tombstone' AND value = 'hidden'
), entered AS (
    SELECT DISTINCT ON (subject) subject AS version_id, value AS stage, landed_at, actor, reason
    FROM stood WHERE kind = 'stage' ORDER BY event_id DESC
)
SELECT n.name AS model, v.version, coalesce(s.stage, 'none') AS stage, v.version_id, s.landed_at, s.actor, s.reason
FROM lake.model_versions v
JOIN lake.commits c ON c.tx = v.tx
JOIN named n ON n.subject = v.model_id
LEFT JOIN entered s USING (version_id)
WHERE n.name = model AND c.position <= (SELECT position FROM here)
    AND v.model_id NOT IN (SELECT subject FROM gone) AND v.version_id NOT IN (SELECT subject FROM gone)
ORDER BY v.version;
