SELECT * FROM version_lineage ORDER BY version_id
