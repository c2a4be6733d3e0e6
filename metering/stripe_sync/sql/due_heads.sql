-- The first pending row of each customer and meter, where it is due; a claimed or postponed head holds up its own
-- queue only. Tried ones come first, so that an outage is probed with the same few rows.
SELECT r.id
FROM (
    SELECT min(id) AS id FROM stripe_reports
    WHERE account = :account AND state = 'pending'
    GROUP BY customer_id, meter_id
) AS head
JOIN stripe_reports r USING (id)
WHERE r.next_try_at <= :now
ORDER BY r.attempts = 0, r.next_try_at, r.id
LIMIT :limit
