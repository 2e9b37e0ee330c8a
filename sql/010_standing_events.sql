-- standing_events: the events that have force and that no other event supersedes; what is true now. Two rows of one subject, kind and key
-- with different values are a conflict that somebody has to settle.
-- Columns: those of lake.events, and commit, landed_at (when it reached this branch).
-- Example: SELECT kind, key, value FROM standing_events WHERE kind = 'alias'
CREATE OR REPLACE VIEW standing_events AS
SELECT e.*, c.commit, c.landed_at
FROM honoured_events e
LEFT JOIN lake.commits c ON c.tx = e.tx
ANTI JOIN (SELECT unnest(prev) AS event_id FROM honoured_events) s ON s.event_id = e.event_id;
