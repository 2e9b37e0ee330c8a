SELECT prediction_id, predicted_at, external_id, input, score, latency_ms, dataset_id, row_key, deployment_id, version_id, recorded_at, actor
FROM predictions WHERE prediction_id IN ('q1', 'q2') ORDER BY prediction_id
