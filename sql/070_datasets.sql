-- datasets: every dataset version, with the commit at which its bytes can be read.
-- Columns: those of lake.datasets, and commit.
-- Example: SELECT name, semver, rows, commit FROM datasets ORDER BY name, recorded_at
CREATE OR REPLACE VIEW datasets AS
SELECT d.*, c.commit
FROM lake.datasets d
LEFT JOIN lake.commits c ON c.tx = d.tx;
