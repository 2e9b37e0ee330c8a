-- run_metrics: the newest value of every metric of every run that is not hidden, over all rows and on slices.
-- Columns: run_id, key, slice (empty for all rows), value, step, dataset_id, source, recorded_at, actor.
-- Example: SELECT run_id, key, value, step FROM run_metrics WHERE slice = '' ORDER BY ALL
CREATE OR REPLACE VIEW run_metrics AS
SELECT x.run_id, x.key, x.slice, x.value, x.step, x.dataset_id, x.source, x.recorded_at, x.actor
FROM lake.metrics x
ANTI JOIN hidden_transactions t ON t.tx = x.tx
WHERE x.run_id IS NOT NULL AND x.version_id IS NULL AND x.run_id NOT IN (SELECT id FROM hidden)
QUALIFY row_number() OVER (
    PARTITION BY x.run_id, x.key, x.slice, x.dataset_id
    ORDER BY x.step DESC NULLS LAST, x.tx DESC, x.ordinal DESC) = 1;
