SELECT * FROM model_names ORDER BY name
