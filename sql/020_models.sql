-- models: the registered models that are not deleted.
-- Columns: name, model_id, versions (how many are not deleted), latest_version, description, tags, recorded_at, actor,
-- commit (that the model was first registered in).
-- Example: SELECT name, versions, latest_version FROM models ORDER BY name
CREATE OR REPLACE VIEW models AS
WITH labels AS (
    SELECT subject AS model_id,
        arg_max(value, event_id) FILTER (kind = 'description') AS description,
        map_from_entries(list({'k': key, 'v': value} ORDER BY event_id)
            FILTER (kind = 'tag' AND value IS NOT NULL)) AS tags
    FROM (SELECT DISTINCT ON (subject, kind, key) * FROM standing_events ORDER BY event_id DESC)
    WHERE kind IN ('description', 'tag') GROUP BY subject
), counted AS (
    SELECT model_id, count(*) AS versions, max(version) AS latest_version
    FROM lake.model_versions WHERE version_id NOT IN (SELECT id FROM hidden) GROUP BY model_id
)
SELECT n.name, m.model_id, coalesce(k.versions, 0) AS versions, k.latest_version, l.description,
    coalesce(l.tags, MAP {}) AS tags, m.recorded_at, m.actor, c.commit
FROM lake.models m
JOIN model_names n USING (model_id)
LEFT JOIN labels l USING (model_id)
LEFT JOIN counted k USING (model_id)
LEFT JOIN lake.commits c ON c.tx = m.tx;
