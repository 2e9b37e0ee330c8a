-- trace(urn): everything that a thing came from: of a prediction its deployment, model version, run, code, datasets,
-- and what those came from. A row a node, each once, as near to the root as it was reached.
-- Columns: depth (0 is the root), urn, kind, relation (of the node to parent_urn), parent_urn, id, name, version, commit,
-- path, digest, rows, predictions.
-- Example: SELECT depth, urn, relation, rows FROM trace('flight-delay@champion')
CREATE OR REPLACE MACRO trace(urn) AS TABLE
WITH RECURSIVE edges AS MATERIALIZED (
    SELECT l.source, l.relation, l.target FROM lake.lineage l ANTI JOIN hidden_transactions t ON t.tx = l.tx
    UNION ALL
    SELECT 'model:' || d.version_id, 'deployed', 'deployment:' || d.deployment_id FROM lake.deployments d
    UNION ALL
    SELECT 'model:' || v.version_id, 'version', 'models:' || v.model_id FROM lake.model_versions v
    UNION ALL
    SELECT CASE WHEN d.deployment_id IS NULL THEN 'model:' || p.version_id ELSE 'deployment:' || p.deployment_id END,
        'predicted', 'prediction:' || p.prediction_id
    FROM lake.predictions p
    ANTI JOIN hidden_transactions t ON t.tx = p.tx
    LEFT JOIN lake.deployments d ON d.deployment_id = p.deployment_id
    WHERE p.prediction_id = CASE WHEN starts_with(urn, 'prediction:') THEN substr(urn, 12) END
    UNION ALL
    SELECT 'dataset:' || p.dataset_id, 'described', 'prediction:' || p.prediction_id FROM lake.predictions p
    ANTI JOIN hidden_transactions t ON t.tx = p.tx
    WHERE p.prediction_id = CASE WHEN starts_with(urn, 'prediction:') THEN substr(urn, 12) END
        AND p.dataset_id IS NOT NULL
    UNION ALL
    SELECT n.node, 'holds', urn FROM lineage_nodes n
    WHERE starts_with(urn, 'object:') AND n.path IS NOT NULL AND starts_with(substr(urn, 8), n.path)
), walk(node, depth, parent, relation) USING KEY (node) AS (
    SELECT r.node, 0, CAST(NULL AS VARCHAR), CAST(NULL AS VARCHAR) FROM lineage_root(urn) r
    UNION ALL
    SELECT e.source, min(w.depth) + 1, min(w.node), arg_min(e.relation, w.node)
    FROM walk w JOIN edges e ON e.target = w.node
    WHERE e.source NOT IN (SELECT k.node FROM recurring.walk k)
    GROUP BY e.source
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
