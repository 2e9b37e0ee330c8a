SELECT name, semver, rows, commit FROM datasets ORDER BY name, semver
