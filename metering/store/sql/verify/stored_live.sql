-- What live counters must show once the stream is drained: usage of open periods, and levels.
SELECT c.key AS customer, c.partition, m.key AS meter, p.id AS period_id, t.units
FROM period_totals t
JOIN customers c ON c.id = t.customer_id
JOIN meters m ON m.id = t.meter_id
JOIN periods p ON p.id = t.period_id
WHERE p.closed_at IS NULL AND m.kind = 'usage' AND m.aggregation IN ('sum', 'count')
UNION ALL
SELECT c.key, c.partition, m.key, NULL, l.level
FROM levels l
JOIN customers c ON c.id = l.customer_id
JOIN meters m ON m.id = l.meter_id
