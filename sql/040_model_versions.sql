-- model_versions: the versions that are not deleted, each with its current stage, aliases, tags and description.
-- Columns: name, version, version_id, model_id, commit, stage, aliases, digest, size, description, params, tags, run_id,
-- path, files, external_url, flavors, signature, code, environment, base_version_id,
-- reproducible, missing, registered (in a signed lake: whether a signature of its registration has force), recorded_at,
-- actor.
-- Example: SELECT version, stage, aliases, params FROM model_versions WHERE name = 'flight-delay' ORDER BY version
CREATE OR REPLACE VIEW model_versions AS
WITH pointed AS (
    SELECT version_id, list(DISTINCT alias ORDER BY alias) AS aliases FROM aliases GROUP BY version_id
), labels AS (
    SELECT subject AS version_id,
        arg_max(value, event_id) FILTER (kind = 'stage') AS stage,
        arg_max(value, event_id) FILTER (kind = 'description') AS description,
        map_from_entries(list({'k': key, 'v': value}) FILTER (kind = 'tag')) AS tags
    FROM (SELECT DISTINCT ON (subject, kind, key) * FROM standing_events ORDER BY event_id DESC)
    WHERE kind IN ('stage', 'description', 'tag') GROUP BY subject
), signed AS (
    SELECT subject AS version_id, list(DISTINCT value) AS digests FROM standing_events WHERE kind = 'registered' GROUP BY subject
)
SELECT m.name, v.version, v.version_id, v.model_id, c.commit, coalesce(l.stage, 'none') AS stage,
    coalesce(p.aliases, []) AS aliases, v.digest, v.size, coalesce(l.description, v.description) AS description,
    v.params,
    CASE WHEN l.tags IS NULL THEN v.tags ELSE
        map_from_entries(list_filter(map_entries(map_concat(v.tags, l.tags)), lambda e: e.value IS NOT NULL)) END AS tags,
    v.run_id, v.path, v.files, v.external_url, v.flavors, v.signature, v.code, v.environment, v.base_version_id,
    coalesce(len(v.missing) = 0, false) AS reproducible, v.missing,
    CASE WHEN EXISTS (SELECT 1 FROM standing_events WHERE signature IS NOT NULL)
        THEN coalesce(g.digests = [v.digest], false) END AS registered,
    v.recorded_at, v.actor
FROM lake.model_versions v
JOIN model_names m USING (model_id)
LEFT JOIN pointed p USING (version_id)
LEFT JOIN labels l USING (version_id)
LEFT JOIN signed g USING (version_id)
LEFT JOIN lake.commits c ON c.tx = v.tx
WHERE v.version_id NOT IN (SELECT id FROM hidden);
