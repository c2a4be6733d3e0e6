-- What the closed hours of these (customer, period) pairs come to for each level, and where the hours that are not closed
-- start: one statement, and so one snapshot, lest hours that are being closed meanwhile count twice or not at all.
SELECT
    wanted.period_id, m.key AS meter, m.definition ->> 'bills_as' AS bills_as, l.customer_id, l.meter_id, l.opening,
    l.accrued_until, coalesce(before.peak, 0) AS peak,
    (
        SELECT coalesce(sum(a.units), 0)
        FROM accruals a
        WHERE a.customer_id = l.customer_id AND a.meter_id = l.meter_id AND a.period_id = wanted.period_id
            AND a.hour < l.accrued_until  -- the last part of a period that ended within an open hour is folded with it
    ) AS closed_units
FROM unnest(CAST(:customer_ids AS bigint[]), CAST(:period_ids AS bigint[])) AS wanted (customer_id, period_id)
JOIN levels l ON l.customer_id = wanted.customer_id
JOIN meters m ON m.id = l.meter_id
LEFT JOIN accruals before
    ON before.customer_id = l.customer_id AND before.meter_id = l.meter_id AND before.period_id = wanted.period_id
    AND before.hour = l.accrued_until - interval '1 hour'
