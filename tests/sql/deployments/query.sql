SELECT * FROM deployments ORDER BY deployment_id
