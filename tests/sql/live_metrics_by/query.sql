SELECT * FROM live_metrics_by('origin') ORDER BY day, deployment_id, slice
