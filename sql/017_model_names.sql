-- model_names: the name that each registered model has now, deleted models left out.
-- Columns: model_id, name.
-- Example: SELECT name FROM model_names ORDER BY name
CREATE OR REPLACE VIEW model_names AS
SELECT subject AS model_id, arg_min(value, event_id) AS name
FROM standing_events
WHERE kind = 'name' AND subject NOT IN (SELECT id FROM hidden)
GROUP BY subject;
