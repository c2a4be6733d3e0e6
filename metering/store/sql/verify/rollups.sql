-- Rollups are what the events add up to, hour by hour and group by group.
SELECT c.key AS customer, m.key AS meter, 'hour ' || hour || ' group ' || grp AS detail,
    coalesce(counted.units, 0) AS expected, coalesce(r.units, 0) AS actual
FROM (
    SELECT customer_id, meter_id, period_id, date_trunc('hour', time, 'UTC') AS hour, grp,
        coalesce(sum(units) FILTER (WHERE op <> 'set'), 0) AS units, count(*) AS events,
        min(units) AS minimum, max(units) AS maximum,
        max(ARRAY[(extract(epoch FROM time) * 1000000)::bigint, position, item, units])
            FILTER (WHERE op IN ('observe', 'set')) AS latest
    FROM events
    WHERE voided_at IS NULL
    GROUP BY customer_id, meter_id, period_id, hour, grp
) counted
FULL JOIN (SELECT * FROM rollups WHERE events <> 0 OR units <> 0) r
    USING (customer_id, meter_id, period_id, hour, grp)
LEFT JOIN customers c ON c.id = customer_id
LEFT JOIN meters m ON m.id = meter_id
WHERE (counted.units, counted.events, counted.minimum, counted.maximum, counted.latest)
    IS DISTINCT FROM (
        r.units, r.events, r.minimum, r.maximum,
        CASE WHEN r.latest_at IS NOT NULL THEN
            ARRAY[(extract(epoch FROM r.latest_at) * 1000000)::bigint, r.latest_position, r.latest_item, r.latest]
        END
    )
LIMIT :most
