-- The totals of these periods of a customer, added up from their rollups.
INSERT INTO period_totals AS t (customer_id, meter_id, period_id, units, events)
SELECT customer_id, meter_id, period_id, sum(units), sum(events)
FROM rollups
WHERE customer_id = :customer_id AND period_id = ANY(CAST(:period_ids AS bigint[]))
GROUP BY customer_id, meter_id, period_id
ORDER BY customer_id, meter_id, period_id
ON CONFLICT (customer_id, meter_id, period_id) DO UPDATE SET units = excluded.units, events = excluded.events
