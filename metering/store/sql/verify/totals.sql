-- A period's totals are what its rollups add up to.
SELECT c.key AS customer, m.key AS meter, 'period ' || period_id AS detail,
    coalesce(summed.units, 0) AS expected, coalesce(t.units, 0) AS actual
FROM (
    SELECT customer_id, meter_id, period_id, sum(units) AS units, sum(events) AS events
    FROM rollups
    GROUP BY customer_id, meter_id, period_id
) summed
FULL JOIN period_totals t USING (customer_id, meter_id, period_id)
LEFT JOIN customers c ON c.id = customer_id
LEFT JOIN meters m ON m.id = meter_id
WHERE (summed.units, summed.events) IS DISTINCT FROM (t.units, t.events)
LIMIT :most
