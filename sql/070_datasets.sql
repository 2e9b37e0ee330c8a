-- datasets: every dataset version that is not hidden, with the commit that added it, and its description as it is now.
-- Columns: those of lake.datasets, and commit.
-- Example: SELECT name, semver, rows, commit FROM datasets ORDER BY name, recorded_at
CREATE OR REPLACE VIEW datasets AS
WITH told AS (
    SELECT subject, arg_max(value, event_id) AS description, count(*) AS told
    FROM standing_events WHERE kind = 'description' GROUP BY subject
)
SELECT d.* REPLACE (CASE WHEN t.told IS NULL THEN d.description ELSE t.description END AS description), c.commit
FROM lake.datasets d
LEFT JOIN told t ON t.subject = d.dataset_id
LEFT JOIN lake.commits c ON c.tx = d.tx
WHERE d.dataset_id NOT IN (SELECT id FROM hidden);
