SELECT * FROM approvals ORDER BY stage, actor, branch
