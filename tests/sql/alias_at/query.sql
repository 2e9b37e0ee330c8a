SELECT * FROM alias_at('delay', 'champion', TIMESTAMPTZ '2026-11-03 08:00:00Z')
