SELECT * FROM lineage_nodes ORDER BY urn
