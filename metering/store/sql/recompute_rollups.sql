-- Rollup rows recomputed from the events they stand for. One that nothing is left of stays, with zeros: so the ledger
-- learns that it owes nothing any more.
INSERT INTO rollups AS r (
    customer_id, meter_id, period_id, hour, grp, units, events, minimum, maximum, latest, latest_at,
    latest_position, latest_item
)
SELECT
    :customer_id, k.meter_id, k.period_id, k.hour, k.grp,
    coalesce(s.units, 0), s.events, s.minimum, s.maximum, s.latest, s.latest_at, s.latest_position, s.latest_item
FROM (
    SELECT DISTINCT meter_id, period_id, hour, grp
    FROM unnest(
        CAST(:meter_ids AS bigint[]), CAST(:period_ids AS bigint[]), CAST(:hours AS timestamptz[]),
        CAST(:groups AS text[])
    ) AS given (meter_id, period_id, hour, grp)
) AS k
CROSS JOIN LATERAL (
    SELECT
        sum(units) FILTER (WHERE op <> 'set') AS units, count(*) AS events,
        min(units) AS minimum, max(units) AS maximum,
        (array_agg(units ORDER BY time DESC, position DESC, item DESC) FILTER (WHERE op IN ('observe', 'set')))[1] AS latest,
        max(time) FILTER (WHERE op IN ('observe', 'set')) AS latest_at,
        (array_agg(position ORDER BY time DESC, position DESC, item DESC) FILTER (WHERE op IN ('observe', 'set')))[1]
            AS latest_position,
        (array_agg(item ORDER BY time DESC, position DESC, item DESC) FILTER (WHERE op IN ('observe', 'set')))[1]
            AS latest_item
    FROM events e
    WHERE e.customer_id = :customer_id AND e.meter_id = k.meter_id AND e.period_id = k.period_id
        AND e.grp = k.grp COLLATE "C" AND e.time >= k.hour AND e.time < k.hour + interval '1 hour'
        AND e.voided_at IS NULL
) AS s
ORDER BY k.meter_id, k.period_id, k.hour, k.grp
ON CONFLICT (customer_id, meter_id, period_id, hour, grp) DO UPDATE SET
    units = excluded.units, events = excluded.events, minimum = excluded.minimum, maximum = excluded.maximum,
    latest = excluded.latest, latest_at = excluded.latest_at, latest_position = excluded.latest_position,
    latest_item = excluded.latest_item
