SELECT count(*) AS rows FROM alias_at('delay', 'champion', TIMESTAMPTZ '2026-11-04 09:00:00Z')
