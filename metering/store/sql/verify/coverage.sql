-- Every hour of a level, from its first event to where it is accrued, has its accrual in each period it lies in, and
-- none has one beyond, but for the last part of a period that ended within the open hour.
WITH first AS (
    SELECT customer_id, meter_id, date_trunc('hour', min(counted_at), 'UTC') AS hour
    FROM events
    WHERE op IN ('change', 'set')
    GROUP BY customer_id, meter_id
),
wanted AS (
    SELECT l.customer_id, l.meter_id, p.id AS period_id, h.hour
    FROM levels l
    JOIN first f USING (customer_id, meter_id)
    CROSS JOIN LATERAL generate_series(f.hour, l.accrued_until - interval '1 hour', interval '1 hour') AS h (hour)
    JOIN periods p
        ON p.customer_id = l.customer_id AND p.starts_at < h.hour + interval '1 hour' AND p.ends_at > h.hour
)
SELECT c.key AS customer, m.key AS meter, 'accrual of hour ' || hour || ' in period ' || period_id AS detail,
    CASE WHEN w.hour_wanted THEN 1 ELSE 0 END AS expected, CASE WHEN a.hour_found THEN 1 ELSE 0 END AS actual
FROM (SELECT *, TRUE AS hour_wanted FROM wanted) w
FULL JOIN (
    SELECT a.customer_id, a.meter_id, a.period_id, a.hour, TRUE AS hour_found
    FROM accruals a
    JOIN periods p ON p.id = a.period_id
    LEFT JOIN levels l ON l.customer_id = a.customer_id AND l.meter_id = a.meter_id
    WHERE (a.hour = l.accrued_until AND p.ends_at > a.hour AND p.ends_at < a.hour + interval '1 hour') IS NOT TRUE
) a
    USING (customer_id, meter_id, period_id, hour)
LEFT JOIN customers c ON c.id = customer_id
LEFT JOIN meters m ON m.id = meter_id
WHERE w.hour_wanted IS DISTINCT FROM a.hour_found
LIMIT :most
