SELECT environment, name, version, mode, traffic, deployment_id FROM serving_at('2026-11-06T10:00:00+01:00') ORDER BY deployment_id
