-- Levels with hours to close before `target`, and what to start from. An hour is closed once a stored period reaches to
-- its end: where the next period is not stored yet the rest of the hour has nowhere to go and waits. The same holds
-- before the first period. A partition's levels stand together, so that one call holds up few partitions.
SELECT
    due.partition, due.customer_id, due.meter_id, due.meter, due.opening, due.accrued_until, bounds.until,
    coalesce(before.peak, 0) AS peak,
    (extract(epoch FROM bounds.until - greatest(due.accrued_until, oldest.starts_at)) / 3600)::bigint AS hours
FROM (
    SELECT c.partition, l.customer_id, l.meter_id, m.key AS meter, l.opening, l.accrued_until
    FROM levels l
    JOIN customers c ON c.id = l.customer_id
    JOIN meters m ON m.id = l.meter_id
    WHERE l.accrued_until < :target AND m.key = ANY(CAST(:meters AS text[]))
        AND (CAST(:partitions AS smallint[]) IS NULL OR c.partition = ANY(CAST(:partitions AS smallint[])))
    ORDER BY c.partition, l.customer_id, l.meter_id
) AS due
CROSS JOIN LATERAL (
    SELECT p.starts_at FROM periods p WHERE p.customer_id = due.customer_id ORDER BY p.starts_at LIMIT 1
) AS oldest
CROSS JOIN LATERAL (
    SELECT p.ends_at FROM periods p WHERE p.customer_id = due.customer_id ORDER BY p.starts_at DESC LIMIT 1
) AS newest
CROSS JOIN LATERAL (
    SELECT least(CAST(:target AS timestamptz), date_trunc('hour', newest.ends_at, 'UTC')) AS until
) AS bounds
-- The period that has begun before `accrued_until` and goes on after it: its peak so far stands in the hour before.
LEFT JOIN periods running
    ON running.customer_id = due.customer_id
    AND running.starts_at < due.accrued_until AND running.ends_at > due.accrued_until
LEFT JOIN accruals before
    ON before.customer_id = due.customer_id AND before.meter_id = due.meter_id AND before.period_id = running.id
    AND before.hour = due.accrued_until - interval '1 hour'
WHERE due.accrued_until < bounds.until AND oldest.starts_at < bounds.until
ORDER BY due.partition, due.customer_id, due.meter_id
LIMIT :most
