SELECT * FROM live_metrics ORDER BY day, deployment_id
