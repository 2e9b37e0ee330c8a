-- runs: every run that is not hidden as it stands now, with its params, tags, and the newest of its metrics over all rows.
-- Columns: run_id, name, experiment, status (running, finished, failed, killed), started_at, ended_at, exit_status,
-- params, metrics, tags, description, parent_run_id, command, folder, code, environment, host, seeds, missing,
-- recorded_at, actor, commit.
-- Example: SELECT name, status, metrics['auc'] AS auc FROM runs WHERE experiment = 'delays' ORDER BY started_at DESC
CREATE OR REPLACE VIEW runs AS
WITH measured AS (
    SELECT run_id, map_from_entries(list({'k': key, 'v': value} ORDER BY key)) AS metrics
    FROM (
        SELECT DISTINCT ON (run_id, key) run_id, key, value FROM run_metrics
        WHERE slice = '' ORDER BY step DESC NULLS LAST, recorded_at DESC, dataset_id NULLS FIRST)
    GROUP BY run_id
), labels AS (
    SELECT subject AS run_id,
        arg_max(value, event_id) FILTER (kind = 'description') AS description,
        map_from_entries(list({'k': key, 'v': value} ORDER BY key) FILTER (kind = 'param' AND value IS NOT NULL)) AS params,
        map_from_entries(list({'k': key, 'v': value} ORDER BY key) FILTER (kind = 'tag')) AS tags
    FROM (SELECT DISTINCT ON (subject, kind, key) * FROM standing_events ORDER BY event_id DESC)
    WHERE kind IN ('param', 'tag', 'description') GROUP BY subject
), stands AS (
    -- where two branches disagree, the later of: running, killed, failed, finished
    SELECT subject AS run_id,
        arg_max(value, list_position(['running', 'killed', 'failed', 'finished'], value ->> 'status')) AS ending
    FROM standing_events WHERE kind = 'status' GROUP BY subject
)
SELECT r.run_id, r.name, r.experiment, coalesce(s.ending ->> 'status', 'running') AS status, r.started_at,
    CAST(s.ending ->> 'ended_at' AS TIMESTAMPTZ) AS ended_at, CAST(s.ending ->> 'exit_status' AS INTEGER) AS exit_status,
    CASE WHEN l.params IS NULL THEN r.params ELSE map_concat(r.params, l.params) END AS params,
    coalesce(m.metrics, MAP {}) AS metrics,
    CASE WHEN l.tags IS NULL THEN r.tags ELSE
        map_from_entries(list_filter(map_entries(map_concat(r.tags, l.tags)), lambda e: e.value IS NOT NULL)) END AS tags,
    coalesce(l.description, r.description) AS description,
    r.parent_run_id, r.command, r.folder, r.code, r.environment, r.host, r.seeds, r.missing, r.recorded_at, r.actor,
    c.commit
FROM lake.runs r
LEFT JOIN measured m USING (run_id)
LEFT JOIN labels l USING (run_id)
LEFT JOIN stands s USING (run_id)
LEFT JOIN lake.commits c ON c.tx = r.tx
WHERE r.run_id NOT IN (SELECT id FROM hidden);
