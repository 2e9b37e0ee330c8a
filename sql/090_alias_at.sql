-- alias_at(model, alias, moment): what MODEL@ALIAS was at BRANCH@{moment}: as the branch had it, whatever any clock said.
-- Names, deletions and aliases are those of that moment.
-- Columns: model, alias, version, version_id, landed_at (since when), actor, reason. No row where it pointed nowhere.
-- Example: SELECT version FROM alias_at('flight-delay', 'champion', TIMESTAMPTZ '2026-10-05 00:00:00Z')
CREATE OR REPLACE MACRO alias_at(model, alias, moment) AS TABLE
WITH seen AS (
    SELECT e.event_id, e.subject, e.kind, e.key, e.value, e.prev, e.actor, e.reason, c.landed_at
    FROM honoured_events e
    JOIN lake.commits c ON c.tx = e.tx
    WHERE e.kind IN ('alias', 'name', 'tombstone') AND c.position <= (
        SELECT max(p.position) FROM lake.commits p WHERE p.landed_at <= CAST(moment AS TIMESTAMPTZ))
), stood AS (
    SELECT * FROM seen WHERE event_id NOT IN (SELECT unnest(prev) FROM seen)
), named AS (
    SELECT subject, arg_min(value, event_id) AS name FROM stood WHERE kind = 'name' GROUP BY subject
), gone AS (
    SELECT subject FROM stood WHERE kind = 'tombstone' AND value = 'hidden'
)
SELECT n.name AS model, s.key AS alias, v.version, v.version_id, s.landed_at, s.actor, s.reason
FROM stood s
JOIN named n ON n.subject = s.subject
JOIN lake.model_versions v ON v.version_id = s.value
WHERE s.kind = 'alias' AND s.key = alias AND n.name = model
    AND s.subject NOT IN (SELECT subject FROM gone) AND v.version_id NOT IN (SELECT subject FROM gone)
QUALIFY row_number() OVER (PARTITION BY s.subject, s.value ORDER BY s.event_id) = 1;
