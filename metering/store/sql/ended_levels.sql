-- Levels of periods that ended within the hour that is open, and what to start from: what they cost in that hour until
-- the end is known, and written nowhere yet. The hours before it are closed. A partition's levels stand together.
SELECT
    c.partition, l.customer_id, l.meter_id, m.key AS meter, l.opening, l.accrued_until, coalesce(before.peak, 0) AS peak,
    p.id AS period_id, p.starts_at, p.ends_at
FROM periods p
JOIN customers c ON c.id = p.customer_id
JOIN levels l
    ON l.customer_id = p.customer_id AND l.accrued_until < p.ends_at
    AND p.ends_at < l.accrued_until + interval '1 hour'
JOIN meters m ON m.id = l.meter_id AND m.key = ANY(CAST(:meters AS text[]))
LEFT JOIN accruals before
    ON before.customer_id = l.customer_id AND before.meter_id = l.meter_id AND before.period_id = p.id
    AND before.hour = l.accrued_until - interval '1 hour'
WHERE p.ends_at > :since AND p.ends_at <= :ended_by
    AND (CAST(:partitions AS smallint[]) IS NULL OR c.partition = ANY(CAST(:partitions AS smallint[])))
    AND NOT EXISTS (
        SELECT FROM accruals a
        WHERE a.customer_id = l.customer_id AND a.meter_id = l.meter_id AND a.period_id = p.id
            AND a.hour = l.accrued_until
    )
ORDER BY c.partition, l.customer_id, l.meter_id, p.starts_at
LIMIT :most
