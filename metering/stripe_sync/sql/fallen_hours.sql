-- Of these locked hours, those that owe less than was reported, and by how much. An hour of which a row is being taken
-- back at Stripe already is left out: it is looked at again when that is done.
SELECT l.customer_id, l.meter_id, l.period_id, l.hour, l.reported - div(owed.units, s.unit) AS excess
FROM unnest(
    CAST(:customer_ids AS bigint[]), CAST(:meter_ids AS bigint[]), CAST(:period_ids AS bigint[]),
    CAST(:hours AS timestamptz[])
) AS k (customer_id, meter_id, period_id, hour)
JOIN stripe_ledger l
    ON l.account = :account
    AND (l.customer_id, l.meter_id, l.period_id, l.hour) = (k.customer_id, k.meter_id, k.period_id, k.hour)
JOIN meters m ON m.id = l.meter_id
JOIN stripe_meters s ON s.account = l.account AND s.meter_id = l.meter_id
CROSS JOIN LATERAL (
    SELECT sum(r.units) AS units
    FROM rollups r
    WHERE m.kind <> 'level'
        AND (r.customer_id, r.meter_id, r.period_id, r.hour) = (l.customer_id, l.meter_id, l.period_id, l.hour)
    UNION ALL
    SELECT a.units
    FROM accruals a
    WHERE m.kind = 'level'
        AND (a.customer_id, a.meter_id, a.period_id, a.hour) = (l.customer_id, l.meter_id, l.period_id, l.hour)
    UNION ALL
    -- Its period does not reach to this hour any more: what it cost is accrued in another.
    SELECT 0
    FROM periods p
    WHERE m.kind = 'level' AND p.id = l.period_id
        AND (p.ends_at <= l.hour OR p.starts_at >= l.hour + interval '1 hour')
) AS owed
WHERE div(owed.units, s.unit) < l.reported AND NOT EXISTS (
    SELECT FROM stripe_reports c
    WHERE c.state = 'cancelling' AND (c.account, c.customer_id, c.meter_id, c.period_id, c.hour)
        = (l.account, l.customer_id, l.meter_id, l.period_id, l.hour)
)
