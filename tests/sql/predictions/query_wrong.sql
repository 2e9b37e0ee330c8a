SELECT prediction_id, output, label FROM predictions WHERE predicted_at >= '2026-11-03 08:00:02Z' AND NOT correct ORDER BY prediction_id
