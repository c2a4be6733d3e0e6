-- What the ledger says was reported is the sum of its rows, without those that were withdrawn.
SELECT c.key AS customer, m.key AS meter, l.account || ' hour ' || l.hour AS detail,
    coalesce(sum(r.value), 0) AS expected, l.reported AS actual
FROM stripe_ledger l
LEFT JOIN stripe_reports r
    ON r.state <> 'withdrawn'
    AND (r.account, r.customer_id, r.meter_id, r.period_id, r.hour)
        = (l.account, l.customer_id, l.meter_id, l.period_id, l.hour)
LEFT JOIN customers c ON c.id = l.customer_id
LEFT JOIN meters m ON m.id = l.meter_id
GROUP BY c.key, m.key, l.account, l.customer_id, l.meter_id, l.period_id, l.hour, l.reported
HAVING coalesce(sum(r.value), 0) <> l.reported
LIMIT :most
