SELECT name, version, datasets FROM prediction_lineage WHERE prediction_id = 'q1'
