-- Every event has the identity of its very place in the stream, every identity has its event, none twice.
SELECT coalesce(c.key, '?') AS customer, NULL AS meter,
    CASE
        WHEN i.digest IS NULL THEN 'event without identity'
        WHEN e.digest IS NULL THEN 'identity without event'
        ELSE 'event stored more than once'
    END AS detail,
    1 AS expected, coalesce(e.events, 0) AS actual
FROM identities i
FULL JOIN (
    SELECT digest, count(*) AS events, min(position) AS position, min(item) AS item, min(customer_id) AS customer_id
    FROM events
    GROUP BY digest
) e ON e.digest = i.digest AND e.position = i.position AND e.item = i.item
LEFT JOIN customers c ON c.id = e.customer_id
WHERE i.digest IS NULL OR e.digest IS NULL OR e.events <> 1
LIMIT :most
