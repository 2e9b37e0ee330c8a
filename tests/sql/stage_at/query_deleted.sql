SELECT version, stage FROM stage_at('delay', TIMESTAMPTZ '2026-11-09 09:00:00Z')
