SELECT environment, name, version, mode, traffic, deployment_id FROM serving_at(TIMESTAMPTZ '2026-11-08 09:00:00Z') ORDER BY deployment_id
