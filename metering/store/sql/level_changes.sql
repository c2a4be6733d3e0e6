-- The changes of each of these (customer, meter) pairs in `[since, until]`, in the order in which they took effect.
SELECT e.customer_id, e.meter_id, e.counted_at AS time, e.op, e.units
FROM unnest(
    CAST(:customer_ids AS bigint[]), CAST(:meter_ids AS bigint[]),
    CAST(:since AS timestamptz[]), CAST(:until AS timestamptz[])
) AS wanted (customer_id, meter_id, since, until)
JOIN events e
    ON e.customer_id = wanted.customer_id AND e.meter_id = wanted.meter_id
    AND e.counted_at >= wanted.since AND e.counted_at <= wanted.until
WHERE e.op IN ('change', 'set') AND e.voided_at IS NULL
ORDER BY e.customer_id, e.meter_id, e.counted_at, e.position, e.item
