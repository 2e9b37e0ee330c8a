SELECT * FROM version_datasets ORDER BY version, semver
