SELECT * FROM policies ORDER BY subject
