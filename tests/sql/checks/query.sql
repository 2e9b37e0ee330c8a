SELECT * FROM checks ORDER BY version, check_name
