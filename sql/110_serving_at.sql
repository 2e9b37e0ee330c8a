-- serving_at(moment): what served where at BRANCH@{moment}: as the branch had it, whatever any clock said.
-- Columns: environment, name (of the model, as it is called now), version, mode (live, canary or shadow), traffic
-- (percent), deployment_id, version_id, model_id, deployed_at, actor, commit.
-- Example: SELECT name, version, mode, traffic FROM serving_at(TIMESTAMPTZ '2026-11-01 00:00:00Z') ORDER BY ALL
CREATE OR REPLACE MACRO serving_at(moment) AS TABLE
WITH seen AS (
    SELECT e.event_id, e.value, e.prev
    FROM lake.events e
    JOIN lake.commits c ON c.tx = e.tx
    WHERE e.kind = 'traffic' AND c.position <= (
        SELECT max(p.position) FROM lake.commits p WHERE p.landed_at <= CAST(moment AS TIMESTAMPTZ))
), stood AS (
    SELECT x.one.deployment_id AS deployment_id, max(x.one.percent) AS percent
    FROM seen s, unnest(from_json(s.value, '[{"deployment_id": "VARCHAR", "percent": "DOUBLE"}]')) AS x(one)
    WHERE s.event_id NOT IN (SELECT unnest(prev) FROM seen)
    GROUP BY ALL
)
SELECT d.environment, d.name, d.version, d.mode, s.percent AS traffic, d.deployment_id, d.version_id, d.model_id,
    d.deployed_at, d.actor, d.commit
FROM stood s
JOIN deployments d USING (deployment_id);
