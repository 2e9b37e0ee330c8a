SELECT event_id, value, commit, landed_at FROM standing_events ORDER BY event_id
