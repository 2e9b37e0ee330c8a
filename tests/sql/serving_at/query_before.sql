SELECT count(*) AS rows FROM serving_at(TIMESTAMPTZ '2026-11-01 10:00:00Z')
