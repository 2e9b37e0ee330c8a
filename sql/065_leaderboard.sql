-- leaderboard(model): the versions of a model ranked by each metric, on each dataset that it was measured on: the highest
-- value first, NaN last. For a metric where less is better, read it from the other end.
-- Columns: name, version, key, value, rank (from 1; equal values share one), dataset (as `flights@1.1.0`, null where none
-- was named), step, source, aliases, stage, recorded_at, version_id, dataset_id.
-- Example: SELECT rank, version, value, aliases FROM leaderboard('flight-delay') WHERE key = 'auc'
CREATE OR REPLACE MACRO leaderboard(model) AS TABLE
SELECT x.name, x.version, x.key, x.value,
    rank() OVER (PARTITION BY x.key, x.dataset_id ORDER BY isnan(x.value), x.value DESC) AS rank,
    d.name || '@' || d.semver AS dataset, x.step, x.source, v.aliases, v.stage, x.recorded_at, x.version_id, x.dataset_id
FROM metrics x
JOIN model_versions v USING (version_id)
LEFT JOIN lake.datasets d ON d.dataset_id = x.dataset_id
WHERE x.name = model
ORDER BY x.key, dataset NULLS FIRST, rank, x.version;
