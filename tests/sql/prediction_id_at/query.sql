SELECT prediction_id_at(TIMESTAMPTZ '2026-10-07 08:15:00.123999Z') AS id,
    prediction_id_at('1970-01-01 00:00:00Z') AS first, prediction_id_at(NULL) AS none, count(*) AS outcomes
FROM lake.outcomes
WHERE prediction_id >= prediction_id_at('2026-10-07 08:15:00.123Z')
    AND prediction_id < prediction_id_at('2026-10-07 08:15:00.124Z')
