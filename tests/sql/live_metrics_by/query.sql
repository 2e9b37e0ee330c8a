SELECT day, name, version, environment, mode, slice, predictions, labelled, round(accuracy, 6) AS accuracy, round(mean_score, 6) AS mean_score,
    mean_latency_ms, p95_latency_ms, deployment_id, version_id
FROM live_metrics_by('origin') ORDER BY day, deployment_id, slice NULLS LAST
