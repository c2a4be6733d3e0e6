-- A level is what its events fold to, from the first on; so is the level at which its open hours begin.
WITH ordered AS (
    SELECT customer_id, meter_id, counted_at AS time, position, item, units,
        count(*) FILTER (WHERE op = 'set') OVER changes AS run
    FROM events
    WHERE op IN ('change', 'set') AND voided_at IS NULL
    WINDOW changes AS (PARTITION BY customer_id, meter_id ORDER BY counted_at, position, item)
),
running AS (
    SELECT customer_id, meter_id, time, position, item,
        sum(units) OVER (PARTITION BY customer_id, meter_id, run ORDER BY time, position, item) AS level
    FROM ordered
),
folded AS (
    SELECT customer_id, meter_id,
        (array_agg(r.level ORDER BY time DESC, position DESC, item DESC))[1] AS level,
        (array_agg(r.level ORDER BY time DESC, position DESC, item DESC) FILTER (WHERE time < l.accrued_until))[1] AS opening
    FROM running r LEFT JOIN levels l USING (customer_id, meter_id)
    GROUP BY customer_id, meter_id
)
SELECT c.key AS customer, m.key AS meter, which AS detail, expected, actual
FROM (
    SELECT customer_id, meter_id, 'level' AS which, coalesce(f.level, 0) AS expected, l.level AS actual
    FROM folded f FULL JOIN levels l USING (customer_id, meter_id)
    UNION ALL
    SELECT customer_id, meter_id, 'opening level', coalesce(f.opening, 0), l.opening
    FROM folded f FULL JOIN levels l USING (customer_id, meter_id)
) AS compared
LEFT JOIN customers c ON c.id = customer_id
LEFT JOIN meters m ON m.id = meter_id
WHERE expected IS DISTINCT FROM actual
LIMIT :most
