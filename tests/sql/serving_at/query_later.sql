SELECT name, version, mode, traffic FROM serving_at(TIMESTAMPTZ '2026-11-05 12:00:00Z') ORDER BY name
