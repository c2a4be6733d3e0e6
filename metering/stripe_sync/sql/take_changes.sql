-- Closed hours that changed, of customers that Stripe knows, and that were subscribed at the time that their report
-- bears: the start of the hour, or of a period that begins within it. Others stay noted: a subscription may become known
-- later. What was reported of an hour is looked at again in any case: a subscription whose end we were told of late has
-- had hours reported after it, which are to be taken back. An hour within which its period ends is closed with that. The order keeps concurrent callers apart from each
-- other; a note that somebody is just writing is left for the next time.
WITH taken AS (
    SELECT d.account, d.customer_id, d.meter_id, d.period_id, d.hour
    FROM stripe_changes d
    JOIN customers c ON c.id = d.customer_id AND c.stripe_customer_id IS NOT NULL
    JOIN periods p ON p.id = d.period_id
    WHERE d.account = :account AND least(d.hour + interval '1 hour', p.ends_at) <= :closed_by
        AND (
            EXISTS (
                SELECT FROM stripe_subscriptions s
                WHERE s.account = d.account AND s.customer_id = d.customer_id
                    AND s.status NOT IN ('incomplete', 'incomplete_expired')
                    AND s.starts_at <= greatest(d.hour, p.starts_at)
                    AND (s.ended_at IS NULL OR s.ended_at > greatest(d.hour, p.starts_at))
            )
            OR EXISTS (
                SELECT FROM stripe_ledger l
                WHERE l.reported <> 0 AND (l.account, l.customer_id, l.meter_id, l.period_id, l.hour)
                    = (d.account, d.customer_id, d.meter_id, d.period_id, d.hour)
            )
        )
    ORDER BY d.customer_id, d.meter_id, d.period_id, d.hour
    LIMIT :limit
    FOR UPDATE OF d SKIP LOCKED
)
DELETE FROM stripe_changes d
USING taken t
WHERE (d.account, d.customer_id, d.meter_id, d.period_id, d.hour)
    = (t.account, t.customer_id, t.meter_id, t.period_id, t.hour)
RETURNING d.customer_id, d.meter_id, d.period_id, d.hour
