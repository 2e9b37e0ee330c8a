SELECT * FROM serving ORDER BY deployment_id
