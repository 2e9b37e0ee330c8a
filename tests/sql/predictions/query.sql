SELECT prediction_id, name, version, environment, mode, output, label, observed_at, correct FROM predictions ORDER BY prediction_id
