-- What each hour of a level cost, worked out anew from its events, by other means than the job that closes hours.
WITH ordered AS (
    SELECT customer_id, meter_id, counted_at AS time, position, item, units,
        count(*) FILTER (WHERE op = 'set') OVER changes AS run
    FROM events
    WHERE op IN ('change', 'set') AND voided_at IS NULL
    WINDOW changes AS (PARTITION BY customer_id, meter_id ORDER BY counted_at, position, item)
),
running AS (
    SELECT customer_id, meter_id, time,
        sum(units) OVER (PARTITION BY customer_id, meter_id, run ORDER BY time, position, item) AS level,
        coalesce(lead(time) OVER (PARTITION BY customer_id, meter_id ORDER BY time, position, item), 'infinity') AS until
    FROM ordered
),
hours AS (
    SELECT a.*, m.key AS meter, m.definition ->> 'bills_as' AS bills_as,
        greatest(a.hour, p.starts_at) AS begins, least(a.hour + interval '1 hour', p.ends_at) AS ends
    FROM accruals a
    JOIN periods p ON p.id = a.period_id
    JOIN meters m ON m.id = a.meter_id
),
measured AS (
    SELECT h.customer_id, h.meter_id, h.period_id, h.hour, h.meter, h.bills_as, h.units, h.peak, h.closing,
        coalesce(sum(
            greatest(r.level, 0) * extract(epoch FROM greatest(least(r.until, h.ends) - greatest(r.time, h.begins), interval '0'))
        ), 0) AS unit_seconds,
        greatest(coalesce(max(r.level), 0), 0) AS highest,
        coalesce(max(r.level) FILTER (WHERE r.time < h.ends AND r.until >= h.ends), 0) AS last
    FROM hours h
    LEFT JOIN running r
        ON r.customer_id = h.customer_id AND r.meter_id = h.meter_id AND r.time < h.ends
        AND (r.until > h.begins OR r.time >= h.begins)
    WHERE h.begins < h.ends
    GROUP BY h.customer_id, h.meter_id, h.period_id, h.hour, h.meter, h.bills_as, h.units, h.peak, h.closing
),
peaked AS (
    SELECT *, max(highest) OVER (PARTITION BY customer_id, meter_id, period_id ORDER BY hour) AS peak_so_far
    FROM measured
),
expected AS (
    SELECT *,
        CASE bills_as
            WHEN 'maximum' THEN peak_so_far
                - coalesce(lag(peak_so_far) OVER (PARTITION BY customer_id, meter_id, period_id ORDER BY hour), 0)
            -- Half to even, as an accrual is rounded; PostgreSQL's own round() goes away from zero.
            ELSE round(unit_seconds) - CASE WHEN mod(unit_seconds, 2) = 0.5 THEN 1 ELSE 0 END
        END AS owed
    FROM peaked
)
SELECT c.key AS customer, e.meter, what || ' of hour ' || e.hour AS detail, wanted AS expected, found AS actual
FROM expected e
CROSS JOIN LATERAL (
    VALUES ('accrual', e.owed, e.units), ('peak', e.peak_so_far, e.peak), ('closing level', e.last, e.closing)
) AS compared (what, wanted, found)
LEFT JOIN customers c ON c.id = e.customer_id
WHERE wanted <> found
LIMIT :most
