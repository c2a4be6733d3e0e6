-- What the events of a usage meter come to, by window and dimensions. Whole hours come from rollups; from events comes
-- what rollups cannot tell: the hours that an edge of a window cuts, or all of the range. Both have the same form, so it
-- makes no difference to a value which of them an event was read from.
WITH parts AS (
    SELECT
        width_bucket(r.hour, CAST(:edges AS timestamptz[])) AS place,
        CASE WHEN CAST(:by_customer AS boolean) THEN r.customer_id END AS customer_id,
        CASE WHEN CAST(:by_group AS boolean) THEN r.grp END AS grp,
        CAST(NULL AS jsonb) AS undeclared,
        CAST(NULL AS text) AS value,
        sum(r.units) AS units, sum(r.events) AS events, min(r.minimum) AS minimum, max(r.maximum) AS maximum,
        max(
            ARRAY[
                (extract(epoch FROM r.latest_at) * 1000000)::bigint, r.customer_id, r.latest_position, r.latest_item,
                r.latest
            ]
        ) FILTER (WHERE CAST(:reads_latest AS boolean)) AS latest
    FROM rollups r
    WHERE r.meter_id = :meter_id
        AND (CAST(:customer_ids AS bigint[]) IS NULL OR r.customer_id = ANY(CAST(:customer_ids AS bigint[])))
        AND r.hour >= :hours_from AND r.hour < :hours_until AND r.hour <> ALL(CAST(:cut_hours AS timestamptz[]))
        AND r.events > 0
    GROUP BY 1, 2, 3
    UNION ALL
    SELECT
        width_bucket(e.time, CAST(:edges AS timestamptz[])),
        CASE WHEN CAST(:by_customer AS boolean) THEN e.customer_id END,
        CASE WHEN CAST(:by_group AS boolean) THEN e.grp END,
        -- As `intake.event.group_of` writes what is declared.
        (
            SELECT jsonb_object_agg(
                name, CASE name WHEN 'keyId' THEN e.key_id::text ELSE left(e.properties ->> name, :longest) END
            )
            FROM unnest(CAST(:undeclared AS text[])) AS name
        ),
        -- A number and the text of it are one value, however many zeros end it.
        CASE jsonb_typeof(e.properties #> CAST(:value_path AS text[]))
            WHEN 'number' THEN trim_scale(CAST(e.properties #>> CAST(:value_path AS text[]) AS numeric))::text
            ELSE e.properties #>> CAST(:value_path AS text[])
        END,
        sum(e.units), count(*), min(e.units), max(e.units),
        max(
            ARRAY[(extract(epoch FROM e.time) * 1000000)::bigint, e.customer_id, e.position, e.item, e.units]
        ) FILTER (WHERE CAST(:reads_latest AS boolean))
    FROM unnest(CAST(:stretch_starts AS timestamptz[]), CAST(:stretch_ends AS timestamptz[])) AS stretch (starts, ends)
    JOIN events e ON e.time >= stretch.starts AND e.time < stretch.ends
    WHERE e.meter_id = :meter_id
        AND (CAST(:customer_ids AS bigint[]) IS NULL OR e.customer_id = ANY(CAST(:customer_ids AS bigint[])))
        AND (CAST(:customer_ids AS bigint[]) IS NOT NULL OR e.customer_id > 0)  -- the index over all customers may serve
        AND e.time >= :from AND e.time < :to AND e.voided_at IS NULL
    GROUP BY 1, 2, 3, 4, 5
),
described AS (
    SELECT parts.*, coalesce(grp::jsonb, '{}') || coalesce(undeclared, '{}') AS said FROM parts
)
SELECT
    d.place, c.key AS customer, dimensions.said AS dimensions,
    sum(d.units) AS units, sum(d.events) AS events, min(d.minimum) AS minimum, max(d.maximum) AS maximum,
    max(d.latest) AS latest, count(DISTINCT d.value) AS distinct
FROM described d
LEFT JOIN customers c ON c.id = d.customer_id
CROSS JOIN LATERAL (
    SELECT array_agg(nullif(d.said ->> name, '') ORDER BY number) AS said
    FROM unnest(CAST(:dimensions AS text[])) WITH ORDINALITY AS wanted (name, number)
) AS dimensions
WHERE NOT EXISTS (
    SELECT FROM jsonb_each(CAST(:filters AS jsonb)) AS filter (name, allowed)
    WHERE NOT filter.allowed ? coalesce(d.said ->> filter.name, '')
)
GROUP BY d.place, c.key, dimensions.said
ORDER BY d.place, c.key, dimensions.said
LIMIT :most + 1
