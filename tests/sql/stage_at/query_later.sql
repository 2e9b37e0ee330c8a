SELECT version, stage, actor, reason FROM stage_at('delay', TIMESTAMPTZ '2026-11-03 09:00:00Z')
