SELECT happened_at, name, version, event, action, branch, status, tries, error, next_try_at, tried_at, actor, reason, commit,
    model_id, version_id, tx
FROM notifications ORDER BY happened_at, tx
