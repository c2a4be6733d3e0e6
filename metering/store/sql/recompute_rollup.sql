-- One rollup row and its period's total, recomputed from the events they stand for.
WITH counted AS (
    SELECT units, op, time, position, item
    FROM events
    WHERE customer_id = :customer_id AND meter_id = :meter_id AND period_id = :period_id AND grp = :grp
        AND time >= :hour AND time < :hour + interval '1 hour' AND voided_at IS NULL
),
summed AS (
    SELECT
        coalesce(sum(units) FILTER (WHERE op <> 'set'), 0) AS units, count(*) AS events,
        min(units) AS minimum, max(units) AS maximum,
        (array_agg(units ORDER BY time DESC, position DESC, item DESC) FILTER (WHERE op IN ('observe', 'set')))[1] AS latest,
        max(time) FILTER (WHERE op IN ('observe', 'set')) AS latest_at,
        (array_agg(position ORDER BY time DESC, position DESC, item DESC) FILTER (WHERE op IN ('observe', 'set')))[1]
            AS latest_position,
        (array_agg(item ORDER BY time DESC, position DESC, item DESC) FILTER (WHERE op IN ('observe', 'set')))[1]
            AS latest_item
    FROM counted
),
changed AS (
    UPDATE rollups r
    SET units = s.units, events = s.events, minimum = s.minimum, maximum = s.maximum, latest = s.latest,
        latest_at = s.latest_at, latest_position = s.latest_position, latest_item = s.latest_item
    FROM summed s
    WHERE r.customer_id = :customer_id AND r.meter_id = :meter_id AND r.period_id = :period_id AND r.hour = :hour
        AND r.grp = :grp
    RETURNING old.units AS units_before, old.events AS events_before, new.units, new.events
)
UPDATE period_totals t
SET units = t.units + c.units - c.units_before, events = t.events + c.events - c.events_before
FROM changed c
WHERE t.customer_id = :customer_id AND t.meter_id = :meter_id AND t.period_id = :period_id
