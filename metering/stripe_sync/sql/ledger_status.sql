SELECT
    (
        -- From who was ever subscribed: what others use stays noted for weeks, and is far more.
        SELECT count(*)
        FROM (SELECT DISTINCT customer_id FROM stripe_subscriptions WHERE account = :account) AS ever
        JOIN customers c ON c.id = ever.customer_id AND c.stripe_customer_id IS NOT NULL
        JOIN stripe_changes d ON d.account = :account AND d.customer_id = c.id
        JOIN periods p ON p.id = d.period_id
        WHERE least(d.hour + interval '1 hour', p.ends_at) <= :now
        AND (
            EXISTS (
                SELECT FROM stripe_subscriptions s
                WHERE s.account = d.account AND s.customer_id = d.customer_id
                    AND s.status NOT IN ('incomplete', 'incomplete_expired')
                    AND s.starts_at <= greatest(d.hour, p.starts_at)
                    AND (s.ended_at IS NULL OR s.ended_at > greatest(d.hour, p.starts_at))
            )
            OR EXISTS (
                SELECT FROM stripe_ledger l
                WHERE l.reported <> 0 AND (l.account, l.customer_id, l.meter_id, l.period_id, l.hour)
                    = (d.account, d.customer_id, d.meter_id, d.period_id, d.hour)
            )
        )
    ) AS owed_hours,
    without.customers AS customers_without_stripe_id,
    without.hours AS hours_without_stripe_id,
    waiting.*,
    (SELECT count(*) FROM stripe_reports WHERE account = :account AND state = 'parked') AS parked,
    (SELECT count(*) FROM stripe_reports WHERE account = :account AND state = 'written_off') AS written_off,
    (
        SELECT count(*) FROM stripe_reports
        WHERE account = :account AND state = 'accepted' AND settled_at >= :day_ago
    ) AS accepted_last_day
FROM (
    SELECT count(DISTINCT d.customer_id) AS customers, count(*) AS hours
    FROM customers c
    JOIN periods p ON p.customer_id = c.id AND {may_cost}
    JOIN stripe_changes d ON (d.account, d.customer_id, d.period_id) = (:account, c.id, p.id)
    WHERE c.stripe_customer_id IS NULL AND least(d.hour + interval '1 hour', p.ends_at) <= :now
) AS without
CROSS JOIN (
    SELECT
        count(*) FILTER (WHERE state = 'pending') AS pending,
        count(*) FILTER (WHERE state = 'cancelling') AS cancelling,
        count(*) FILTER (WHERE state = 'doubtful') AS doubtful,
        min(created_at) FILTER (WHERE state = 'pending') AS oldest_waiting_at
    FROM stripe_reports
    WHERE account = :account AND state IN ('pending', 'cancelling', 'doubtful')
) AS waiting
