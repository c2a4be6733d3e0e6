-- One statement stores a batch: identities -> events -> rollups -> totals -> what live counters must be corrected by.
-- A row is new when its identity was claimed from its very place in the stream, so that an identity that stands twice
-- in one batch counts once. All multi-row writes are ordered by their key: concurrent ones cannot deadlock.
WITH input AS MATERIALIZED (
    SELECT
        partition, position, item, digest, payload, customer, meter, op, units, source, event_id, key_id, grp,
        properties, period, effect, overshoot,
        'epoch'::timestamptz + time_us * interval '1 microsecond' AS time,
        'epoch'::timestamptz + admitted_us * interval '1 microsecond' AS admitted
    FROM unnest(
        CAST(:partition AS smallint[]), CAST(:position AS bigint[]), CAST(:item AS smallint[]),
        CAST(:digest AS uuid[]), CAST(:payload AS uuid[]), CAST(:customer AS text[]), CAST(:meter AS text[]),
        CAST(:op AS text[]), CAST(:units AS bigint[]), CAST(:time AS bigint[]), CAST(:admitted AS bigint[]),
        CAST(:source AS text[]), CAST(:event_id AS text[]), CAST(:key_id AS bigint[]), CAST(:grp AS text[]),
        CAST(:properties AS text[]), CAST(:period AS bigint[]), CAST(:effect AS bigint[]),
        CAST(:overshoot AS boolean[])
    ) AS i (
        partition, position, item, digest, payload, customer, meter, op, units, time_us, admitted_us, source,
        event_id, key_id, grp, properties, period, effect, overshoot
    )
),
-- An event counts in the period it happened in while that is open, else in the one that is current at admission.
batch AS MATERIALIZED (
    SELECT
        i.*, c.id AS customer_id, m.id AS meter_id,
        coalesce(hint.id, other.id) AS period_id,
        hint.id IS NULL AND NOT coalesce(other.own, FALSE) AS late,
        greatest(i.time, hint.starts_at, other.starts_at) AS counted_at
    FROM input i
    JOIN customers c ON c.key = i.customer
    JOIN meters m ON m.key = i.meter
    LEFT JOIN periods hint
        ON hint.id = i.period AND hint.customer_id = c.id AND hint.closed_at IS NULL
        AND i.time >= hint.starts_at AND i.time < hint.ends_at
    LEFT JOIN LATERAL (
        SELECT p.id, p.starts_at, p.starts_at <= i.time AND i.time < p.ends_at AS own
        FROM periods p
        WHERE hint.id IS NULL AND p.customer_id = c.id AND p.closed_at IS NULL
            AND (p.starts_at <= i.time AND i.time < p.ends_at
                OR p.starts_at <= i.admitted AND i.admitted < p.ends_at)
        ORDER BY own DESC
        LIMIT 1
    ) other ON TRUE
),
claimed AS (
    INSERT INTO identities (digest, payload, position, item)
    SELECT digest, payload, position, item FROM batch WHERE period_id IS NOT NULL
    ORDER BY digest, position, item
    ON CONFLICT DO NOTHING
    RETURNING digest, payload, position, item
),
fresh AS MATERIALIZED (
    SELECT b.* FROM batch b JOIN claimed USING (digest, position, item)
),
stored AS (
    INSERT INTO events (
        digest, time, counted_at, customer_id, meter_id, period_id, op, units, source, event_id, key_id, grp, properties,
        recorded_at, position, item, late, overshoot
    )
    SELECT
        digest, time, counted_at, customer_id, meter_id, period_id, op, units, source, event_id, key_id, grp, properties::jsonb,
        admitted, position, item, late, overshoot
    FROM fresh
),
hourly AS (
    INSERT INTO rollups AS r (
        customer_id, meter_id, period_id, hour, grp, units, events, minimum, maximum, latest, latest_at,
        latest_position, latest_item
    )
    SELECT
        customer_id, meter_id, period_id, date_trunc('hour', time, 'UTC') AS hour, grp,
        coalesce(sum(units) FILTER (WHERE op <> 'set'), 0), count(*), min(units), max(units),
        (array_agg(units ORDER BY time DESC, position DESC, item DESC) FILTER (WHERE op IN ('observe', 'set')))[1],
        max(time) FILTER (WHERE op IN ('observe', 'set')),
        (array_agg(position ORDER BY time DESC, position DESC, item DESC) FILTER (WHERE op IN ('observe', 'set')))[1],
        (array_agg(item ORDER BY time DESC, position DESC, item DESC) FILTER (WHERE op IN ('observe', 'set')))[1]
    FROM fresh
    GROUP BY customer_id, meter_id, period_id, hour, grp
    ORDER BY customer_id, meter_id, period_id, hour, grp
    ON CONFLICT (customer_id, meter_id, period_id, hour, grp) DO UPDATE SET
        units = r.units + excluded.units,
        events = r.events + excluded.events,
        minimum = least(r.minimum, excluded.minimum),
        maximum = greatest(r.maximum, excluded.maximum),
        latest = CASE
            WHEN excluded.latest_at IS NULL
                OR (r.latest_at, r.latest_position, r.latest_item)
                    > (excluded.latest_at, excluded.latest_position, excluded.latest_item)
            THEN r.latest ELSE excluded.latest
        END,
        latest_position = CASE
            WHEN excluded.latest_at IS NULL
                OR (r.latest_at, r.latest_position, r.latest_item)
                    > (excluded.latest_at, excluded.latest_position, excluded.latest_item)
            THEN r.latest_position ELSE excluded.latest_position
        END,
        latest_item = CASE
            WHEN excluded.latest_at IS NULL
                OR (r.latest_at, r.latest_position, r.latest_item)
                    > (excluded.latest_at, excluded.latest_position, excluded.latest_item)
            THEN r.latest_item ELSE excluded.latest_item
        END,
        latest_at = greatest(r.latest_at, excluded.latest_at)
),
totals AS (
    INSERT INTO period_totals AS t (customer_id, meter_id, period_id, units, events)
    SELECT
        customer_id, meter_id, period_id, coalesce(sum(units) FILTER (WHERE op <> 'set'), 0), count(*)
    FROM fresh
    GROUP BY customer_id, meter_id, period_id
    ORDER BY customer_id, meter_id, period_id
    ON CONFLICT (customer_id, meter_id, period_id) DO UPDATE SET
        units = t.units + excluded.units,
        events = t.events + excluded.events
    RETURNING customer_id, meter_id, period_id, units
),
-- What the live counters of this batch say beyond, or short of, what was stored.
drift AS (
    INSERT INTO corrections (partition, customer, meter, period_id, units)
    SELECT partition, customer, meter, period_id, sum(units)
    FROM (
        SELECT partition, customer, meter, period_id, units FROM fresh WHERE op = 'add'
        UNION ALL
        SELECT partition, customer, meter, period, -effect FROM input WHERE period IS NOT NULL
    ) AS difference
    WHERE :correct
    GROUP BY partition, customer, meter, period_id
    HAVING sum(units) <> 0
    ORDER BY partition, customer, meter, period_id
    RETURNING 1
),
-- Rows that were not stored, each with its reason. A replay of the same payload is no problem at all.
problems AS (
    SELECT i.partition, i.position, i.item,
        CASE
            WHEN NOT EXISTS (SELECT FROM customers c WHERE c.key = i.customer) THEN 'unknown-customer'
            WHEN NOT EXISTS (SELECT FROM meters m WHERE m.key = i.meter) THEN 'unknown-meter'
            ELSE 'no-open-period'
        END AS reason
    FROM input i LEFT JOIN batch b USING (partition, position, item)
    WHERE b.period_id IS NULL
    UNION ALL
    SELECT b.partition, b.position, b.item, 'conflict'
    FROM batch b
    JOIN (
        SELECT digest, payload, position, item FROM claimed
        UNION ALL
        SELECT digest, payload, position, item FROM identities WHERE digest IN (SELECT digest FROM batch)
    ) AS known USING (digest)
    WHERE b.payload <> known.payload
)
SELECT
    (SELECT count(*) FROM fresh) AS fresh,
    (SELECT count(*) FROM drift) AS corrections,
    (SELECT coalesce(jsonb_agg(jsonb_build_array(partition, position, item, reason)), '[]') FROM problems) AS problems,
    (SELECT coalesce(jsonb_agg(jsonb_build_array(customer_id, meter_id, period_id, units)), '[]') FROM totals) AS totals,
    (
        SELECT coalesce(jsonb_agg(jsonb_build_array(partition, customer_id, meter_id, customer, meter, first_us, effect)), '[]')
        FROM (
            SELECT
                b.partition, b.customer_id, b.meter_id, b.customer, b.meter,
                (extract(epoch FROM min(f.counted_at)) * 1000000)::bigint AS first_us, sum(b.effect) AS effect
            FROM batch b LEFT JOIN fresh f USING (partition, position, item)
            WHERE b.op IN ('change', 'set')
            GROUP BY b.partition, b.customer_id, b.meter_id, b.customer, b.meter
        ) AS level
    ) AS levels
