-- Customers that Stripe knows, with usage that is noted for it, none of which was used while they were subscribed.
SELECT c.key
FROM customers c
WHERE c.stripe_customer_id IS NOT NULL
    AND EXISTS (SELECT FROM stripe_changes d WHERE d.customer_id = c.id)
    AND NOT EXISTS (
        SELECT FROM stripe_subscriptions s
        WHERE s.customer_id = c.id AND s.status NOT IN ('incomplete', 'incomplete_expired', 'canceled')
    )
ORDER BY c.key
