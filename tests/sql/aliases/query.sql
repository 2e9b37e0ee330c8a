SELECT * FROM aliases ORDER BY name, alias, version
