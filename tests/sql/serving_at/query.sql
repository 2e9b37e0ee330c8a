SELECT * FROM serving_at('2026-11-03T12:00:00Z') ORDER BY deployment_id
