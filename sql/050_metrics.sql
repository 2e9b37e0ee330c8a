-- metrics: the newest value of every metric over all rows together, of every version and run
-- that is not hidden. A version that a run made has the values that the run had then; name and version are null in the run's own rows.
-- Columns: name (of the model), version, version_id, run_id, key, value, step, dataset_id, source, recorded_at, actor.
-- Example: SELECT version, value FROM metrics WHERE name = 'flight-delay' AND key = 'auc' ORDER BY version
CREATE OR REPLACE VIEW metrics AS
SELECT v.name, v.version, x.version_id, x.run_id, x.key, x.value, x.step, x.dataset_id, x.source, x.recorded_at, x.actor
FROM lake.metrics x
ANTI JOIN hidden_transactions t ON t.tx = x.tx
JOIN model_versions v USING (version_id)
WHERE x.slice = ''
QUALIFY row_number() OVER (
    PARTITION BY x.version_id, x.key, x.dataset_id ORDER BY x.step DESC NULLS LAST, x.tx DESC, x.ordinal DESC) = 1
UNION ALL
SELECT NULL, NULL, NULL, r.run_id, r.key, r.value, r.step, r.dataset_id, r.source, r.recorded_at, r.actor
FROM run_metrics r
WHERE r.slice = '';
