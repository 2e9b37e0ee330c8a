-- serving_at(moment): what served where at BRANCH@{moment}: as the branch had it, whatever any clock said.
-- Columns: environment, name (of the model, as it is called now), version, mode (live, canary or shadow), traffic
-- (percent), deployment_id, version_id, model_id, deployed_at, actor, commit.
-- Example: SELECT name, version, mode, traffic FROM serving_at(TIMESTAMPTZ '2026-11-01 00:00:00Z') ORDER BY ALL
CREATE OR REPLACE MACRO serving_at(moment) AS TABLE
WITH seen AS (
    SELECT e.event_id, e.value, e.prev
    FROM honoured_events e
    JOIN lake.commits c ON c.tx = e.tx
    WHERE e.kind = 'traffic' AND c.position <= (
        SELECT max(p.position) FROM lake.commits p WHERE p.landed_at <= CAST(moment AS TIMESTAMPTZ))
), stood AS (
    SELECT x.one.deployment_id AS deployment_id, max(x.one.percent) AS percent
    FROM seen s, unnest(from_json(s.value, '[{"deployment_id": "VARCHAR", "percent": "DOUBLE"}]')) AS x(one)
    WHERE s.event_id NOT IN (SELECT unnest(prev) FROM seen)
    GROUP BY ALL
), named AS (
    SELECT subject AS model_id, arg_min(value, event_id) AS name FROM standing_events WHERE kind = 'name' GROUP BY subject
)
SELECT d.environment, n.name, v.version, d.mode, s.percent AS traffic, d.deployment_id, d.version_id, d.model_id,
    c.landed_at AS deployed_at, d.actor, c.commit
FROM stood s
JOIN lake.deployments d USING (deployment_id)
LEFT JOIN lake.model_versions v USING (version_id)
LEFT JOIN named n ON n.model_id = d.model_id
LEFT JOIN lake.commits c ON c.tx = d.tx;
