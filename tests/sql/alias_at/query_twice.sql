SELECT alias, version, landed_at FROM alias_at('delay', 'other', TIMESTAMPTZ '2026-11-03 08:00:00Z')
