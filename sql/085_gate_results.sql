-- gate_results: what each gate found when a version was last to enter a stage, passed or not.
-- Columns: name (of the model), version, stage, gate, kind, passed, required, found, source (where the number comes from),
-- details (JSON), policy (sha256 of the gates), evaluated_at (the commit whose numbers were read), since (when it reached
-- this branch), recorded_at, actor, version_id, model_id, commit.
-- Example: SELECT name, version, gate, required, found, passed FROM gate_results WHERE NOT passed ORDER BY ALL
CREATE OR REPLACE VIEW gate_results AS
WITH said AS (
    SELECT DISTINCT ON (subject, key, value) *, TRY_CAST(value AS JSON) AS result
    FROM standing_events
    WHERE kind = 'gate' AND value IS NOT NULL
    ORDER BY event_id
)
SELECT v.name, v.version, split_part(s.key, ' ', 1) AS stage, s.result ->> '$.gate' AS gate, s.result ->> '$.kind' AS kind,
    coalesce((s.result ->> '$.passed') = 'true', false) AS passed, s.result ->> '$.required' AS required,
    s.result ->> '$.found' AS found, s.result ->> '$.source' AS source, s.result -> '$.details' AS details,
    s.result ->> '$.policy' AS policy, s.result ->> '$.commit' AS evaluated_at, s.landed_at AS since, s.recorded_at, s.actor,
    v.version_id, v.model_id, s.commit
FROM said s
JOIN model_versions v ON v.version_id = s.subject
WHERE s.result IS NOT NULL;
