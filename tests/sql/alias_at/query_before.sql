SELECT count(*) AS rows FROM alias_at('delay', 'champion', TIMESTAMPTZ '2026-11-01 08:59:59Z')
