SELECT * FROM predictions ORDER BY prediction_id
