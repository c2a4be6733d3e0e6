-- The changes of each of these (customer, meter) pairs in `[since, until]`, in the order in which they took effect: one
-- row for a pair, with an array for each column, as a busy hour has hundreds of them.
SELECT
    e.customer_id, e.meter_id,
    array_agg(e.counted_at ORDER BY e.counted_at, e.position, e.item) AS times,
    array_agg(e.op ORDER BY e.counted_at, e.position, e.item) AS ops,
    array_agg(e.units ORDER BY e.counted_at, e.position, e.item) AS units
FROM unnest(
    CAST(:customer_ids AS bigint[]), CAST(:meter_ids AS bigint[]),
    CAST(:since AS timestamptz[]), CAST(:until AS timestamptz[])
) AS wanted (customer_id, meter_id, since, until)
JOIN events e
    ON e.customer_id = wanted.customer_id AND e.meter_id = wanted.meter_id
    AND e.counted_at >= wanted.since AND e.counted_at <= wanted.until
WHERE e.op IN ('change', 'set') AND e.voided_at IS NULL
GROUP BY e.customer_id, e.meter_id
