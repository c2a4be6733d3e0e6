-- How a level went, by window: at its end, at its highest, and in unit-microseconds. Without `by_customer` the levels of
-- all customers are one, the sum of them. It begins with its first event and never ends, so that idle windows have a row.
-- Events take effect from `counted_at` on, as they do for what is billed.
WITH opened AS (
    -- Each level with where it is read from, `base_at`, a whole hour, and what it was there.
    SELECT
        l.customer_id, born.at AS born_at, base.at AS base_at, base.level,
        -- Until there the closing level of an hour stands for its events, unless an edge cuts it.
        CASE WHEN CAST(:closes_hours AS boolean) THEN l.accrued_until ELSE base.at END AS closed_until
    FROM levels l
    CROSS JOIN LATERAL (
        SELECT e.counted_at AS at
        FROM events e
        WHERE e.customer_id = l.customer_id AND e.meter_id = l.meter_id AND e.op IN ('change', 'set')
            AND e.voided_at IS NULL
        ORDER BY e.counted_at
        LIMIT 1
    ) AS born
    CROSS JOIN LATERAL (
        SELECT l.accrued_until AS at, l.opening AS level WHERE l.accrued_until <= :first_hour
        UNION ALL
        SELECT CAST(:first_hour AS timestamptz), coalesce(
            (
                SELECT a.closing
                FROM accruals a JOIN periods p ON p.id = a.period_id
                WHERE a.customer_id = l.customer_id AND a.meter_id = l.meter_id AND a.hour < :first_hour
                ORDER BY a.hour DESC, p.starts_at DESC
                LIMIT 1
            ), 0
        )
        WHERE l.accrued_until > :first_hour
    ) AS base
    WHERE l.meter_id = :meter_id AND born.at < :until
        AND (CAST(:customer_ids AS bigint[]) IS NULL OR l.customer_id = ANY(CAST(:customer_ids AS bigint[])))
),
changes AS (
    SELECT o.customer_id, e.counted_at AS at, e.position, e.item, e.op, e.units
    FROM opened o
    CROSS JOIN LATERAL (
        SELECT hour AS starts, least(hour + interval '1 hour', :until) AS ends
        FROM unnest(CAST(:cut_hours AS timestamptz[])) AS hour
        WHERE hour < o.closed_until
        UNION ALL
        SELECT o.closed_until, :until
    ) AS stretch
    JOIN events e
        ON e.customer_id = o.customer_id AND e.meter_id = :meter_id
        AND e.counted_at >= stretch.starts AND e.counted_at < stretch.ends AND e.time < :until
    WHERE e.op IN ('change', 'set') AND e.voided_at IS NULL
    UNION ALL
    -- Of an hour that two periods share, the later one's.
    SELECT
        o.customer_id, a.hour + interval '1 hour' - interval '1 microsecond', extract(epoch FROM p.starts_at)::bigint, 0,
        'set', a.closing
    FROM opened o
    JOIN accruals a
        ON a.customer_id = o.customer_id AND a.meter_id = :meter_id
        AND a.hour >= :first_hour AND a.hour < least(o.closed_until, :until)
        AND a.hour <> ALL(CAST(:cut_hours AS timestamptz[]))
    JOIN periods p ON p.id = a.period_id
),
eras AS (
    -- Each `set` begins an era: what came before it no longer matters.
    SELECT *, count(*) FILTER (WHERE op = 'set') OVER (PARTITION BY customer_id ORDER BY at, position, item) AS era
    FROM changes
),
levels_after AS (
    -- A level below zero, which a voided event can leave behind, counts as none, as it does for what is billed.
    SELECT
        o.customer_id, e.at, e.position, e.item,
        greatest(0, o.level) AS opening,
        greatest(
            0,
            CASE e.era WHEN 0 THEN o.level ELSE 0 END
                + sum(e.units) OVER (PARTITION BY e.customer_id, e.era ORDER BY e.at, e.position, e.item)
        ) AS level
    FROM eras e JOIN opened o USING (customer_id)
),
entities AS (
    SELECT CASE WHEN CAST(:by_customer AS boolean) THEN customer_id ELSE 0 END AS entity, min(born_at) AS born_at
    FROM opened
    GROUP BY entity
),
steps AS (
    -- At one instant: what was there before, then the window begins with it, then what changed.
    SELECT CASE WHEN CAST(:by_customer AS boolean) THEN customer_id ELSE 0 END AS entity, base_at AS at, 0 AS turn,
        customer_id, CAST(0 AS bigint) AS position, CAST(0 AS smallint) AS item, greatest(0, level) AS rise
    FROM opened
    WHERE level > 0
    UNION ALL
    (
        SELECT e.entity, w.starts, 1, 0, 0, 0, 0
        FROM entities e
        JOIN unnest(CAST(:starts AS timestamptz[]), CAST(:ends AS timestamptz[])) AS w (starts, ends) ON w.ends > e.born_at
        LIMIT :most + 1  -- each of these becomes a row: more are not answered anyway
    )
    UNION ALL
    SELECT CASE WHEN CAST(:by_customer AS boolean) THEN customer_id ELSE 0 END, at, 2, customer_id, position, item,
        level - lag(level, 1, opening) OVER (PARTITION BY customer_id ORDER BY at, position, item)
    FROM levels_after
),
walked AS (
    SELECT
        entity, width_bucket(at, CAST(:starts AS timestamptz[])) AS place,
        sum(rise) OVER way AS level,
        (extract(epoch FROM lead(at, 1, :until) OVER way - at) * 1000000)::bigint AS micros,
        width_bucket(lead(at) OVER way, CAST(:starts AS timestamptz[])) AS next_place
    FROM steps
    WINDOW way AS (PARTITION BY entity ORDER BY at, turn, customer_id, position, item)
)
SELECT
    w.place, c.key AS customer, max(w.level) AS peak, sum(w.level * w.micros) AS weighed, sum(w.micros) AS micros,
    max(w.level) FILTER (WHERE w.next_place IS DISTINCT FROM w.place) AS closing
FROM walked w
LEFT JOIN customers c ON c.id = w.entity
WHERE w.place > 0
GROUP BY w.place, c.key
ORDER BY w.place, c.key
LIMIT :most + 1
