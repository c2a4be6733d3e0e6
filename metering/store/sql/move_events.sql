-- Events of a customer that do not lie in the period they count in, since its bounds were moved, count from now on in
-- the open one that holds their time. Late ones stay: they count where they were put. Answered by hour and group, with
-- what live counters hold of it.
WITH moved AS (
    UPDATE events e
    SET period_id = p.id
    FROM periods p
    WHERE e.customer_id = :customer_id AND e.time >= :since AND NOT e.late
        AND p.customer_id = e.customer_id AND p.closed_at IS NULL AND p.id <> e.period_id
        AND p.starts_at <= e.time AND e.time < p.ends_at
    RETURNING new.meter_id, old.period_id AS before, new.period_id AS after,
        date_trunc('hour', new.time, 'UTC') AS hour, new.grp,
        CASE WHEN new.op = 'add' AND new.voided_at IS NULL THEN new.units ELSE 0 END AS units
)
SELECT moved.meter_id, m.key AS meter, moved.before, moved.after, moved.hour, moved.grp, sum(moved.units) AS units
FROM moved
JOIN meters m ON m.id = moved.meter_id
GROUP BY moved.meter_id, m.key, moved.before, moved.after, moved.hour, moved.grp
ORDER BY moved.meter_id, moved.before, moved.after, moved.hour, moved.grp
