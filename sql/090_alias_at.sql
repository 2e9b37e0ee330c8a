-- alias_at(model, alias, time): what MODEL@ALIAS was at BRANCH@{time}: as the branch had it, whatever any clock said.
-- Columns: model, alias, version, version_id, landed_at (since when), actor, reason. No row where it pointed nowhere.
-- Example: SELECT version FROM alias_at('flight-delay', 'champion', TIMESTAMPTZ '2026-11-01 00:00:00Z')
CREATE OR REPLACE MACRO alias_at(model, alias, time) AS TABLE
WITH seen AS (
    SELECT e.event_id, e.subject, e.key, e.value, e.prev, e.actor, e.reason, c.landed_at
    FROM lake.events e
    JOIN lake.commits c ON c.tx = e.tx
    WHERE e.kind = 'alias' AND e.key = alias AND c.position <= (
        SELECT max(p.position) FROM lake.commits p
        WHERE p.commit = p.landed AND p.recorded_at <= CAST(time AS TIMESTAMPTZ))
)
SELECT m.name AS model, s.key AS alias, v.version, v.version_id, s.landed_at, s.actor, s.reason
FROM seen s
JOIN models m ON m.model_id = s.subject
JOIN lake.model_versions v ON v.version_id = s.value
WHERE m.name = model AND s.event_id NOT IN (SELECT unnest(prev) FROM seen);
