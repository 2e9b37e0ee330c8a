SELECT prediction_id, label, correct FROM predictions
WHERE predicted_at >= '2026-11-12' AND predicted_at < '2026-11-13' ORDER BY prediction_id
