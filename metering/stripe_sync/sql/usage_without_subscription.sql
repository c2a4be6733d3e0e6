-- What customers that Stripe knows have used by now while no subscription of theirs runs, by meter, in periods that may cost
-- something: hours that are over, within none, and were never reported.
SELECT c.key AS customer, c.plan, m.key AS meter, count(DISTINCT d.hour) AS hours, coalesce(sum(u.units), 0) AS units
FROM stripe_changes d
JOIN customers c ON c.id = d.customer_id AND c.stripe_customer_id IS NOT NULL
JOIN meters m ON m.id = d.meter_id
JOIN periods p ON p.id = d.period_id AND {may_cost}
LEFT JOIN LATERAL (
    SELECT sum(r.units) AS units FROM rollups r
    WHERE m.kind <> 'level'
        AND (r.customer_id, r.meter_id, r.period_id, r.hour) = (d.customer_id, d.meter_id, d.period_id, d.hour)
    UNION ALL
    SELECT a.units FROM accruals a
    WHERE m.kind = 'level'
        AND (a.customer_id, a.meter_id, a.period_id, a.hour) = (d.customer_id, d.meter_id, d.period_id, d.hour)
) AS u ON TRUE
WHERE d.account = :account AND least(d.hour + interval '1 hour', p.ends_at) <= :now
    AND NOT EXISTS (
        SELECT FROM stripe_subscriptions s
        WHERE s.customer_id = c.id AND s.status NOT IN ('incomplete', 'incomplete_expired')
            AND (
                s.status <> 'canceled'
                OR s.starts_at <= greatest(d.hour, p.starts_at) AND s.ended_at > greatest(d.hour, p.starts_at)
            )
    )
GROUP BY c.key, c.plan, m.key
HAVING coalesce(sum(u.units), 0) > 0
ORDER BY c.key, m.key
