SELECT environment, name, version, mode, traffic, deployment_id FROM serving_at(TIMESTAMPTZ '2026-11-04 08:59:59Z') ORDER BY deployment_id
