-- honoured_events: the events that have force: in a signed lake, those that somebody signed who might; elsewhere all.
-- Columns: those of lake.events.
-- Example: SELECT kind, count(*) AS events FROM honoured_events GROUP BY kind ORDER BY kind
CREATE OR REPLACE VIEW honoured_events AS
SELECT e.*
FROM lake.events e
ANTI JOIN lake.refused r ON r.event_id = e.event_id AND r.tx = e.tx AND r.subject = e.subject AND r.kind = e.kind
    AND r.key = e.key AND r.value IS NOT DISTINCT FROM e.value AND r.prev = e.prev AND r.actor = e.actor
    AND r.recorded_at = e.recorded_at AND r.signature IS NOT DISTINCT FROM e.signature;
