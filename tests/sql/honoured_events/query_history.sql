SELECT event_id, value, standing, refused FROM history ORDER BY event_id, value
