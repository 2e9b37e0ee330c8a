SELECT landed_at, actor, kind, model, version, key, value, to_version, reason, standing, commit FROM history
