-- Stripe was told, or will be, of every unit that is stored: what is not reported has a note that the hour has changed.
-- A Stripe meter may count several scaled units as one; an hour owes the whole ones.
-- It is owed what was used while a customer was subscribed. Hours that Stripe would refuse as too old are left out;
-- accruals that are being closed anew have no row meanwhile, and an hour of which a row is being taken back at Stripe is
-- looked at again when that is done.
SELECT c.key AS customer, m.key AS meter, s.account || ' hour ' || u.hour AS detail,
    div(u.units, s.unit) AS expected, coalesce(l.reported, 0) AS actual
FROM (
    SELECT r.customer_id, r.meter_id, r.period_id, r.hour, sum(r.units) AS units
    FROM rollups r JOIN meters m ON m.id = r.meter_id
    WHERE m.kind = 'usage'
    GROUP BY r.customer_id, r.meter_id, r.period_id, r.hour
    UNION ALL
    SELECT customer_id, meter_id, period_id, hour, units FROM accruals
) u
JOIN stripe_meters s USING (meter_id)
JOIN customers c ON c.id = u.customer_id AND c.stripe_customer_id IS NOT NULL
JOIN meters m ON m.id = u.meter_id
JOIN periods p ON p.id = u.period_id
JOIN stripe_subscriptions b
    ON b.account = s.account AND b.customer_id = u.customer_id AND b.status NOT IN ('incomplete', 'incomplete_expired')
    AND b.starts_at <= greatest(u.hour, p.starts_at)
    AND (b.ended_at IS NULL OR b.ended_at > greatest(u.hour, p.starts_at))
LEFT JOIN stripe_ledger l
    ON l.account = s.account AND l.customer_id = u.customer_id AND l.meter_id = u.meter_id
    AND l.period_id = u.period_id AND l.hour = u.hour
LEFT JOIN stripe_changes n
    ON n.account = s.account AND n.customer_id = u.customer_id AND n.meter_id = u.meter_id
    AND n.period_id = u.period_id AND n.hour = u.hour
WHERE coalesce(l.reported, 0) <> div(u.units, s.unit) AND n.hour IS NULL AND u.hour > now() - interval '34 days'
    AND NOT EXISTS (
        SELECT FROM stripe_reports r
        WHERE r.state = 'cancelling' AND (r.account, r.customer_id, r.meter_id, r.period_id, r.hour)
            = (l.account, l.customer_id, l.meter_id, l.period_id, l.hour)
    )
LIMIT :most
