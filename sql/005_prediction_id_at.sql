-- prediction_id_at(moment): the least prediction_id that a prediction of that moment can have: IDs begin with their time.
-- So a range of times is a range of IDs, by which outcomes are found without reading all of them.
-- Columns: prediction_id_at, a text.
-- Example: SELECT count(*) AS n FROM lake.outcomes WHERE prediction_id >= prediction_id_at('2026-10-07 00:00:00Z')
CREATE OR REPLACE MACRO prediction_id_at(moment) AS printf(
    '%08x-%04x-7000-8000-000000000000',
    (epoch_us(CAST(moment AS TIMESTAMPTZ)) // 1000) >> 16, (epoch_us(CAST(moment AS TIMESTAMPTZ)) // 1000) & 65535);
