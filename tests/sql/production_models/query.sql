SELECT * FROM production_models
