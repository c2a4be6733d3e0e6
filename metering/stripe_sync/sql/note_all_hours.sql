-- Everything there is of these meters in periods that are not closed: for a meter that an account learns of just now.
INSERT INTO stripe_changes AS c (account, customer_id, meter_id, period_id, hour)
SELECT DISTINCT CAST(:account AS text), u.customer_id, u.meter_id, u.period_id, u.hour
FROM (
    SELECT customer_id, meter_id, period_id, hour, FALSE AS accrued FROM rollups
    UNION ALL
    SELECT customer_id, meter_id, period_id, hour, TRUE FROM accruals
) AS u
JOIN periods p ON p.id = u.period_id AND p.closed_at IS NULL
JOIN meters m ON m.id = u.meter_id AND (m.kind = 'level') = u.accrued
WHERE u.meter_id = ANY(CAST(:meter_ids AS bigint[]))
ORDER BY u.customer_id, u.meter_id, u.period_id, u.hour
ON CONFLICT (account, customer_id, meter_id, period_id, hour) DO UPDATE SET hour = c.hour WHERE FALSE
