-- impact(urn): everything that came of a thing: derived datasets, runs, model versions, deployments, and how many
-- predictions those made. A row a node, each once, as near to the root as it was reached.
-- Columns: depth (0 is the root), urn, kind, relation (of parent_urn to the node), parent_urn, id, name, version, commit,
-- path, digest, rows, predictions (of a deployment, or of a version's deployments: add up one kind only).
-- Example: SELECT urn, predictions FROM impact('dataset:flights@1.1.0') WHERE kind = 'deployment'
CREATE OR REPLACE MACRO impact(urn) AS TABLE
WITH RECURSIVE edges AS MATERIALIZED (
    SELECT l.source, l.relation, l.target FROM lake.lineage l ANTI JOIN hidden_transactions t ON t.tx = l.tx
    UNION ALL
    SELECT 'model:' || d.version_id, 'deployed', 'deployment:' || d.deployment_id FROM lake.deployments d
    WHERE d.deployment_id NOT IN (SELECT id FROM hidden)
    UNION ALL
    SELECT 'models:' || v.model_id, 'version', 'model:' || v.version_id FROM lake.model_versions v
    UNION ALL
    SELECT urn, 'part', n.node FROM lineage_nodes n
    WHERE starts_with(urn, 'object:') AND n.path IS NOT NULL AND starts_with(substr(urn, 8), n.path)
), walk(node, depth, parent, relation) USING KEY (node) AS (
    SELECT r.node, 0, CAST(NULL AS VARCHAR), CAST(NULL AS VARCHAR) FROM lineage_root(urn) r
    UNION ALL
    SELECT e.target, min(w.depth) + 1, min(w.node), arg_min(e.relation, w.node)
    FROM walk w JOIN edges e ON e.source = w.node AND w.relation IS DISTINCT FROM 'evaluated'
    WHERE e.target NOT IN (SELECT k.node FROM recurring.walk k)
    GROUP BY e.target
), nodes AS MATERIALIZED (
    SELECT * FROM lineage_nodes WHERE node IN (SELECT r.node FROM walk r)
)
SELECT w.depth, coalesce(n.urn, w.node) AS urn, coalesce(n.kind, regexp_extract(w.node, '^[a-z]+')) AS kind, w.relation,
    coalesce(p.urn, w.parent) AS parent_urn, coalesce(n.id, regexp_extract(w.node, '[:@]([^:@]*)$', 1)) AS id, n.name,
    n.version, n.commit, n.path, n.digest, n.rows, n.predictions
FROM walk w
LEFT JOIN nodes n ON n.node = w.node
LEFT JOIN nodes p ON p.node = w.parent
ORDER BY w.depth, coalesce(n.urn, w.node);
