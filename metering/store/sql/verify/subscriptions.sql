-- Each running subscription of a customer bills all of its usage: of two, both would.
SELECT c.key AS customer, NULL AS meter,
    s.account || ' ' || string_agg(s.stripe_id, ', ' ORDER BY s.starts_at, s.stripe_id) AS detail,
    1 AS expected, count(*) AS actual
FROM stripe_subscriptions s JOIN customers c ON c.id = s.customer_id
WHERE s.status IN ('trialing', 'active', 'past_due', 'paused', 'unpaid')
GROUP BY c.key, s.account
HAVING count(*) > 1
ORDER BY c.key
LIMIT :most
