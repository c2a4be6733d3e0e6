-- What was reported, by customer, meter and UTC day: what Stripe must have counted of it, and the values of which nobody
-- knows whether it has: settled or taken back a moment ago, sent without an answer, or decided on by hand.
SELECT
    c.key AS customer, m.key AS meter, s.stripe_id AS stripe_meter, r.stripe_customer_id AS stripe_customer,
    r.stripe_customer_id IS NOT DISTINCT FROM c.stripe_customer_id AS is_linked,
    date_trunc('day', r.timestamp, 'UTC') AS day,
    coalesce(sum(r.value) FILTER (WHERE k.certain), 0) AS counted,
    coalesce(array_agg(r.value) FILTER (WHERE k.doubtful), '{}') AS doubtful
FROM stripe_reports r
JOIN stripe_meters s ON s.account = r.account AND s.meter_id = r.meter_id
JOIN customers c ON c.id = r.customer_id
JOIN meters m ON m.id = r.meter_id
CROSS JOIN LATERAL (
    SELECT
        r.state = 'observed' OR r.state = 'accepted' AND r.settled_at <= :settled_by AS certain,
        CASE r.state
            WHEN 'accepted' THEN r.settled_at > :settled_by
            WHEN 'written_off' THEN r.attempts > 0
            WHEN 'withdrawn' THEN r.cancel_sent_at IS NOT NULL AND r.settled_at > :settled_by
            WHEN 'observed' THEN FALSE
            ELSE r.first_sent_at IS NOT NULL
        END AS doubtful
) k
WHERE r.account = :account
GROUP BY c.key, m.key, s.stripe_id, r.stripe_customer_id, c.stripe_customer_id, day
ORDER BY c.key, m.key, s.stripe_id, r.stripe_customer_id, day
