SELECT
    (
        SELECT count(*)
        FROM stripe_changes d
        JOIN customers c ON c.id = d.customer_id AND c.stripe_customer_id IS NOT NULL
        JOIN periods p ON p.id = d.period_id
        WHERE d.account = :account AND d.hour <= :newest AND EXISTS (
            SELECT FROM stripe_subscriptions s
            WHERE s.account = d.account AND s.customer_id = d.customer_id
                AND s.status NOT IN ('incomplete', 'incomplete_expired')
                AND s.starts_at <= greatest(d.hour, p.starts_at)
                AND (s.ended_at IS NULL OR s.ended_at > greatest(d.hour, p.starts_at))
        )
    ) AS owed_hours,
    (
        SELECT count(*)
        FROM customers c
        WHERE c.stripe_customer_id IS NULL AND EXISTS (
            SELECT FROM stripe_changes d
            WHERE d.account = :account AND d.customer_id = c.id AND d.hour <= :newest
        )
    ) AS customers_without_stripe_id,
    (SELECT count(*) FROM stripe_reports WHERE account = :account AND state = 'pending') AS pending,
    (SELECT min(created_at) FROM stripe_reports WHERE account = :account AND state = 'pending') AS oldest_waiting_at,
    (SELECT count(*) FROM stripe_reports WHERE account = :account AND state = 'parked') AS parked,
    (SELECT count(*) FROM stripe_reports WHERE account = :account AND state = 'written_off') AS written_off,
    (
        SELECT count(*) FROM stripe_reports
        WHERE account = :account AND state = 'accepted' AND settled_at >= :day_ago
    ) AS accepted_last_day
