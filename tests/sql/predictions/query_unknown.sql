SELECT prediction_id FROM predictions WHERE label IS NULL ORDER BY prediction_id
