-- Periods leave no gap, and every event counts in a period of its own customer: in its own unless it is marked late.
SELECT c.key AS customer, NULL AS meter, 'gap after period ' || p.id AS detail, 0 AS expected, 1 AS actual
FROM (
    SELECT id, customer_id, ends_at, lead(starts_at) OVER (PARTITION BY customer_id ORDER BY starts_at) AS following
    FROM periods
) p
JOIN customers c ON c.id = p.customer_id
WHERE p.following <> p.ends_at
UNION ALL
SELECT c.key, m.key, 'events in a period that is not theirs', 0, count(*)
FROM events e
JOIN customers c ON c.id = e.customer_id
JOIN meters m ON m.id = e.meter_id
LEFT JOIN periods p ON p.id = e.period_id
WHERE p.id IS NULL OR p.customer_id <> e.customer_id
    OR NOT e.late AND NOT (e.time >= p.starts_at AND e.time < p.ends_at)
GROUP BY c.key, m.key
LIMIT :most
