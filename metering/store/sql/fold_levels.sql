-- The level of each of these (customer, meter) pairs: the last set, else the opening level, plus the changes after it.
-- Only events since `accrued_until` are read: what came before is in `opening`.
UPDATE levels l
SET level = folded.level
FROM (
    SELECT
        l.customer_id, l.meter_id, l.level AS before,
        coalesce(last_set.units, l.opening) + coalesce(
            (
                SELECT sum(e.units)
                FROM events e
                WHERE e.customer_id = l.customer_id AND e.meter_id = l.meter_id AND e.counted_at >= l.accrued_until
                    AND e.op = 'change' AND e.voided_at IS NULL
                    AND (
                        last_set.counted_at IS NULL
                        OR (e.counted_at, e.position, e.item) > (last_set.counted_at, last_set.position, last_set.item)
                    )
            ), 0
        ) AS level
    FROM levels l
    LEFT JOIN LATERAL (
        SELECT e.units, e.counted_at, e.position, e.item
        FROM events e
        WHERE e.customer_id = l.customer_id AND e.meter_id = l.meter_id AND e.counted_at >= l.accrued_until
            AND e.op = 'set' AND e.voided_at IS NULL
        ORDER BY e.counted_at DESC, e.position DESC, e.item DESC
        LIMIT 1
    ) last_set ON TRUE
    WHERE (l.customer_id, l.meter_id) IN (
        SELECT * FROM unnest(CAST(:customer_ids AS bigint[]), CAST(:meter_ids AS bigint[]))
    )
) AS folded
WHERE l.customer_id = folded.customer_id AND l.meter_id = folded.meter_id
RETURNING l.customer_id, l.meter_id, folded.before, l.level
