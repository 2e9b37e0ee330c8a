SELECT asked, node FROM (VALUES ('delay/1'), ('model:delay/1'), ('models:/delay/1'), ('delay@champion'), ('model:delay'), ('delay'),
    ('flights@1.9.0'), ('flights'), ('dataset:flights'), ('dataset:d1'), ('model:v3'), ('model:m2'), ('model:"Old Model"/1'),
    ('run:r1'), ('code:r.git@abc1'), ('prediction:q2'), ('nothing'), ('prediction:nothing')) t(asked), lineage_root(t.asked)
ORDER BY asked
