SELECT version, reason FROM alias_at('delay', 'champion', TIMESTAMPTZ '2026-11-03 09:00:00Z')
