SELECT actor, kind, model, version, key, value, reason, alarm, event_id, tx, commit FROM refused_events ORDER BY event_id
