-- The changes of each of these (customer, meter) pairs in `[since, until]`, in the order in which they took effect.
-- `earliest` and `latest` are the outermost bounds, repeated so that months of `events` outside of them are not read.
SELECT e.customer_id, e.meter_id, e.time, e.op, e.units
FROM unnest(
    CAST(:customer_ids AS bigint[]), CAST(:meter_ids AS bigint[]),
    CAST(:since AS timestamptz[]), CAST(:until AS timestamptz[])
) AS wanted (customer_id, meter_id, since, until)
JOIN events e
    ON e.customer_id = wanted.customer_id AND e.meter_id = wanted.meter_id
    AND e.time >= wanted.since AND e.time <= wanted.until
WHERE e.op IN ('change', 'set') AND e.voided_at IS NULL AND e.time >= :earliest AND e.time <= :latest
ORDER BY e.customer_id, e.meter_id, e.time, e.position, e.item
