-- hidden: what a tombstone hides now: what was deleted or reverted. Views leave it out; history and lake.* keep it.
-- Columns: id (of a model, version, dataset version, run, deployment or transaction), reason, recorded_at, actor.
-- Example: SELECT id, reason FROM hidden
CREATE OR REPLACE VIEW hidden AS
SELECT subject AS id, any_value(reason) AS reason, min(recorded_at) AS recorded_at, any_value(actor) AS actor
FROM standing_events
WHERE kind = 'tombstone' AND value = 'hidden'
GROUP BY subject;
