-- hidden_transactions: the transactions that were reverted. Views leave out their metrics, predictions, outcomes and edges
-- of the lineage, which have no ID that could be hidden; lake.* keeps them.
-- Columns: tx, reason, recorded_at (when it was reverted), actor (who reverted it).
-- Example: SELECT tx, actor, reason FROM hidden_transactions
CREATE OR REPLACE VIEW hidden_transactions AS
SELECT h.id AS tx, h.reason, h.recorded_at, h.actor
FROM hidden h
WHERE h.id IN (SELECT c.tx FROM lake.commits c);
