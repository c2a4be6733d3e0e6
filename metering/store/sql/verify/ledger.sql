-- What the ledger says was reported is the sum of its rows, whatever became of them.
SELECT c.key AS customer, m.key AS meter, l.account || ' hour ' || l.hour AS detail,
    coalesce(sum(r.value), 0) AS expected, l.reported AS actual
FROM stripe_ledger l
LEFT JOIN stripe_reports r USING (account, customer_id, meter_id, period_id, hour)
LEFT JOIN customers c ON c.id = l.customer_id
LEFT JOIN meters m ON m.id = l.meter_id
GROUP BY c.key, m.key, l.account, l.customer_id, l.meter_id, l.period_id, l.hour, l.reported
HAVING coalesce(sum(r.value), 0) <> l.reported
LIMIT :most
