-- The first waiting row of each customer and meter, where it is due; a claimed or postponed head holds up its own queue
-- only. Tried ones come first, so that an outage is probed with the same few rows; then those of periods that are over,
-- whose invoices are about to be final.
SELECT r.id
FROM (
    SELECT min(id) AS id FROM stripe_reports
    WHERE account = :account AND state IN ('pending', 'cancelling', 'doubtful')
    GROUP BY customer_id, meter_id
) AS head
JOIN stripe_reports r USING (id)
JOIN periods p ON p.id = r.period_id
WHERE r.next_try_at <= :now
ORDER BY r.attempts = 0, p.ends_at > :now, r.next_try_at, r.id
LIMIT :limit
