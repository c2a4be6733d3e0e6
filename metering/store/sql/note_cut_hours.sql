-- Hours of levels that were reported in a period which does not reach to them any more: they owe nothing there.
INSERT INTO stripe_changes AS c (account, customer_id, meter_id, period_id, hour)
SELECT l.account, l.customer_id, l.meter_id, l.period_id, l.hour
FROM stripe_ledger l
JOIN meters m ON m.id = l.meter_id AND m.kind = 'level'
JOIN periods p ON p.id = l.period_id
WHERE l.customer_id = :customer_id AND l.reported <> 0
    AND (p.ends_at <= l.hour OR p.starts_at >= l.hour + interval '1 hour')
ORDER BY l.account, l.customer_id, l.meter_id, l.period_id, l.hour
ON CONFLICT (account, customer_id, meter_id, period_id, hour) DO UPDATE SET hour = c.hour WHERE FALSE
