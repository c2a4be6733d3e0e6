-- One accepted row of each of these hours is to be taken back at Stripe: one that holds all that is too much, best just
-- that. Stripe takes events back for 24 hours from their receipt, and only while the period runs is there time to send
-- the rest anew before an invoice is made of what is there.
UPDATE stripe_reports r
SET state = 'cancelling', next_try_at = :now, settled_at = NULL
FROM (
    SELECT DISTINCT ON (k.customer_id, k.meter_id, k.period_id, k.hour) c.id
    FROM unnest(
        CAST(:customer_ids AS bigint[]), CAST(:meter_ids AS bigint[]), CAST(:period_ids AS bigint[]),
        CAST(:hours AS timestamptz[]), CAST(:excesses AS numeric[])
    ) AS k (customer_id, meter_id, period_id, hour, excess)
    JOIN periods p ON p.id = k.period_id AND p.ends_at > :now
    JOIN stripe_reports c
        ON c.account = :account
        AND (c.customer_id, c.meter_id, c.period_id, c.hour) = (k.customer_id, k.meter_id, k.period_id, k.hour)
    WHERE c.state = 'accepted' AND c.cancel_sent_at IS NULL AND c.first_sent_at > :received_after
        AND c.value >= k.excess
    ORDER BY k.customer_id, k.meter_id, k.period_id, k.hour, c.value = k.excess DESC, c.id DESC
) AS chosen
WHERE r.id = chosen.id
RETURNING r.id
