SELECT prediction_id, output, score, deployment_id, environment, mode, name, version, version_id, commit, deleted,
    run_id, [d.dataset || '@' || d.semver FOR d IN datasets] AS datasets, repository, code_commit, dirty, dataset_id, row_key
FROM prediction_lineage ORDER BY prediction_id
