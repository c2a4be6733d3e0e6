-- A level event at or after `accrued_until` needs nothing; an earlier one takes the accruals back to its hour, from
-- where the hours are closed again. A level seen for the first time starts at zero in its first event's hour.
INSERT INTO levels AS l (customer_id, meter_id, level, opening, accrued_until)
SELECT customer_id, meter_id, 0, 0, date_trunc('hour', first, 'UTC')
FROM unnest(
    CAST(:customer_ids AS bigint[]), CAST(:meter_ids AS bigint[]), CAST(:first AS timestamptz[])
) AS touched (customer_id, meter_id, first)
ORDER BY customer_id, meter_id
ON CONFLICT (customer_id, meter_id) DO UPDATE SET
    accrued_until = least(l.accrued_until, excluded.accrued_until),
    opening = CASE
        WHEN excluded.accrued_until >= l.accrued_until THEN l.opening
        ELSE coalesce(
            (
                SELECT a.closing
                FROM accruals a JOIN periods p ON p.id = a.period_id
                WHERE a.customer_id = l.customer_id AND a.meter_id = l.meter_id AND a.hour < excluded.accrued_until
                ORDER BY a.hour DESC, p.starts_at DESC
                LIMIT 1
            ), 0
        )
    END
