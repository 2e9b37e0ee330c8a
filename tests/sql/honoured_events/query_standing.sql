SELECT event_id, value FROM standing_events ORDER BY event_id
