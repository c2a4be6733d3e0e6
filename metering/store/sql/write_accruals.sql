-- Ordered by the key like every multi-row write: concurrent ones cannot deadlock.
INSERT INTO accruals (customer_id, meter_id, period_id, hour, units, closing, peak)
SELECT customer_id, meter_id, period_id, hour, units, closing, peak
FROM unnest(
    CAST(:customer_ids AS bigint[]), CAST(:meter_ids AS bigint[]), CAST(:period_ids AS bigint[]),
    CAST(:hours AS timestamptz[]), CAST(:units AS numeric[]), CAST(:closings AS bigint[]), CAST(:peaks AS bigint[])
) AS folded (customer_id, meter_id, period_id, hour, units, closing, peak)
ORDER BY customer_id, meter_id, period_id, hour
ON CONFLICT (customer_id, meter_id, period_id, hour) DO UPDATE SET
    units = excluded.units, closing = excluded.closing, peak = excluded.peak
