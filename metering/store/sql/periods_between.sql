-- The periods of each of these customers that overlap `[since, until)`, in order.
SELECT p.customer_id, p.id, p.starts_at, p.ends_at
FROM unnest(
    CAST(:customer_ids AS bigint[]), CAST(:since AS timestamptz[]), CAST(:until AS timestamptz[])
) AS wanted (customer_id, since, until)
JOIN periods p ON p.customer_id = wanted.customer_id AND p.ends_at > wanted.since AND p.starts_at < wanted.until
ORDER BY p.customer_id, p.starts_at
