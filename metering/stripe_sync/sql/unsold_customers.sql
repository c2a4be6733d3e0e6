-- Customers that Stripe knows, or one of them, with usage that is noted for it and may cost something, none of which was
-- used while they were subscribed.
SELECT c.key
FROM customers c
WHERE c.stripe_customer_id IS NOT NULL
    AND (CAST(:customer AS text) IS NULL OR c.key = :customer)
    AND EXISTS (
        SELECT FROM periods p
        WHERE p.customer_id = c.id
            AND {may_cost}
            AND EXISTS (SELECT FROM stripe_changes d WHERE (d.customer_id, d.period_id) = (p.customer_id, p.id))
    )
    AND NOT EXISTS (
        SELECT FROM stripe_subscriptions s
        WHERE s.customer_id = c.id AND s.status NOT IN ('incomplete', 'incomplete_expired', 'canceled')
    )
ORDER BY c.key
