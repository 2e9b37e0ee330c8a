-- lineage_root(urn): the node that a URN means, or a reference to a model or dataset: by number, alias or ID, or by 8
-- or more digits of the ID of a run, of a deployment or of a commit of code. No row where there is none.
-- Columns: node (as lineage_nodes has it).
-- Example: SELECT node FROM lineage_root('flight-delay@champion')
CREATE OR REPLACE MACRO lineage_root(urn) AS TABLE
WITH given AS (
    SELECT regexp_replace(urn, '^models:/', 'model:') AS text
), nodes AS MATERIALIZED (
    SELECT m.urn, m.node, m.kind, m.id, m.name, m.version, m.deleted FROM lineage_nodes m
    WHERE NOT starts_with(urn, 'prediction:') AND NOT starts_with(urn, 'object:')
), asked AS (
    SELECT g.text FROM given g
    UNION ALL SELECT 'model:' || g.text FROM given g WHERE NOT regexp_matches(g.text, '^[a-z]+:')
    UNION ALL SELECT 'dataset:' || g.text FROM given g WHERE NOT regexp_matches(g.text, '^[a-z]+:')
)
SELECT DISTINCT found.node FROM (
    SELECT n.node FROM nodes n JOIN asked a ON a.text = n.urn
    UNION ALL
    SELECT n.node FROM nodes n JOIN asked a ON a.text = n.node OR (
        starts_with(n.node, 'models:') AND a.text = 'model:' || n.id)
    UNION ALL
    SELECT n.node FROM nodes n JOIN given g ON starts_with(n.node, g.text)
    WHERE n.kind IN ('run', 'deployment') AND length(g.text) >= length(n.kind) + 9
        OR n.kind = 'code' AND regexp_full_match(g.text, 'code:.+@[0-9a-f]{4,}')
    UNION ALL
    SELECT 'model:' || p.version_id FROM aliases p JOIN asked a ON a.text = 'model:' || p.name || '@' || p.alias
        OR a.text = 'model:"' || p.name || '"@' || p.alias
    UNION ALL
    SELECT arg_max(n.node, [CAST(x AS BIGINT) FOR x IN string_split(n.version, '.')]) FROM nodes n
    JOIN asked a ON a.text = regexp_replace(n.urn, '@[^@]*$', '')
    WHERE n.kind = 'dataset' AND NOT n.deleted GROUP BY n.name
    UNION ALL
    SELECT 'prediction:' || p.prediction_id FROM lake.predictions p
    ANTI JOIN hidden_transactions t ON t.tx = p.tx
    WHERE p.prediction_id = CASE WHEN starts_with(urn, 'prediction:') THEN substr(urn, 12) END
    UNION ALL
    SELECT g.text FROM given g WHERE starts_with(g.text, 'object:')
) found;
