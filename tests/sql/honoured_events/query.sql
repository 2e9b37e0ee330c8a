SELECT event_id, kind, value, signature FROM honoured_events ORDER BY event_id
