SELECT day, slice, predictions, accuracy
FROM live_metrics_by('origin', since := '2026-11-03 12:00:00Z', until := '2026-11-04') WHERE name = 'delay' ORDER BY deployment_id, slice NULLS LAST
