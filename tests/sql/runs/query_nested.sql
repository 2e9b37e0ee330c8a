SELECT p.name AS parent, r.name, r.status FROM runs r JOIN runs p ON p.run_id = r.parent_run_id ORDER BY r.run_id
