SELECT * FROM stages
