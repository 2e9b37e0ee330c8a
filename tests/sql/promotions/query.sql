SELECT landed_at, actor, name, version, stage, was, kind, gates, failed, override, reason, standing, commit FROM promotions
