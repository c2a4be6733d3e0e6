-- What one customer used, and what was reported of it, by meter and period: everything that Stripe may have to agree with.
-- Of a customer that Stripe knows that is what was used while it was subscribed. Where Stripe
-- knows the customer and the meter, series without usage are there as well. Periods that Stripe takes no usage of any more
-- are left out, and so are those that have not begun.
SELECT
    c.id AS customer_id, c.key AS customer, c.stripe_customer_id, m.id AS meter_id, m.key AS meter,
    s.stripe_id AS stripe_meter, p.id AS period_id, p.starts_at, p.ends_at, sum(k.used) AS used,
    sum(k.reported) AS reported, rows.*
FROM (
    -- In the units that the Stripe meter counts, as they are owed: the whole ones of each hour.
    SELECT u.meter_id, u.period_id, div(u.units, coalesce(s.unit, 1)) AS used, 0 AS reported
    FROM (
        SELECT r.meter_id, r.period_id, r.hour, sum(r.units) AS units
        FROM rollups r JOIN meters m ON m.id = r.meter_id AND m.kind <> 'level'
        WHERE r.customer_id = :customer_id
        GROUP BY r.meter_id, r.period_id, r.hour
        UNION ALL
        SELECT meter_id, period_id, hour, units FROM accruals WHERE customer_id = :customer_id
    ) AS u
    JOIN periods p ON p.id = u.period_id
    LEFT JOIN stripe_meters s ON s.account = :account AND s.meter_id = u.meter_id
    WHERE EXISTS (SELECT FROM customers WHERE id = :customer_id AND stripe_customer_id IS NULL)
        OR EXISTS (
            SELECT FROM stripe_subscriptions b
            WHERE b.account = :account AND b.customer_id = :customer_id
                AND b.status NOT IN ('incomplete', 'incomplete_expired')
                AND b.starts_at <= greatest(u.hour, p.starts_at)
                AND (b.ended_at IS NULL OR b.ended_at > greatest(u.hour, p.starts_at))
        )
    UNION ALL
    SELECT meter_id, period_id, 0, reported FROM stripe_ledger
    WHERE account = :account AND customer_id = :customer_id
    UNION ALL
    -- Where nothing was used or reported Stripe must count nothing.
    SELECT s.meter_id, p.id, 0, 0
    FROM customers c
    JOIN periods p ON p.customer_id = c.id AND p.ends_at > :since AND p.starts_at <= :now
    JOIN stripe_meters s ON s.account = :account
    WHERE c.id = :customer_id AND c.stripe_customer_id IS NOT NULL
) AS k
JOIN periods p ON p.id = k.period_id AND p.ends_at > :since AND p.starts_at <= :now
JOIN meters m ON m.id = k.meter_id AND m.key = ANY(CAST(:meters AS text[]))
JOIN customers c ON c.id = :customer_id
LEFT JOIN stripe_meters s ON s.account = :account AND s.meter_id = m.id
CROSS JOIN LATERAL (
    SELECT
        coalesce(sum(r.value) FILTER (
            WHERE r.state = 'observed' OR r.state = 'accepted' AND r.settled_at <= :settled_by
        ), 0) AS certain,
        coalesce(array_agg(r.value) FILTER (WHERE CASE r.state
            WHEN 'accepted' THEN r.settled_at > :settled_by
            WHEN 'written_off' THEN r.attempts > 0
            WHEN 'withdrawn' THEN r.cancel_sent_at IS NOT NULL AND r.settled_at > :settled_by
            WHEN 'observed' THEN FALSE
            ELSE r.first_sent_at IS NOT NULL
        END), '{}') AS uncertain,
        coalesce(sum(r.value) FILTER (WHERE r.state = 'accepted' AND r.settled_at > :settled_by), 0) AS recent,
        coalesce(sum(r.value) FILTER (WHERE r.state = 'pending'), 0) AS pending,
        coalesce(sum(r.value) FILTER (WHERE r.state = 'doubtful'), 0) AS doubtful,
        coalesce(sum(r.value) FILTER (WHERE r.state = 'cancelling'), 0) AS cancelling,
        coalesce(sum(r.value) FILTER (WHERE r.state = 'parked' AND r.fault <> :too_old), 0) AS parked,
        coalesce(sum(r.value) FILTER (WHERE r.state = 'parked' AND r.fault = :too_old), 0) AS too_old,
        coalesce(sum(r.value) FILTER (WHERE r.state = 'written_off'), 0) AS written_off,
        coalesce(array_agg(DISTINCT r.stripe_customer_id) FILTER (WHERE r.id IS NOT NULL), '{}') AS stripe_customers
    FROM stripe_reports r
    WHERE r.account = :account AND r.customer_id = c.id AND r.meter_id = m.id AND r.period_id = p.id
) AS rows
GROUP BY c.id, m.id, s.stripe_id, p.id, rows.certain, rows.uncertain, rows.recent, rows.pending, rows.doubtful,
    rows.cancelling, rows.parked, rows.too_old, rows.written_off, rows.stripe_customers
ORDER BY p.starts_at, m.key
