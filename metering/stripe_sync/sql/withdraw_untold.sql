-- Rows of these locked hours that Stripe cannot have counted: never sent, or plainly refused. What the hours owe is
-- written anew. A row that is being claimed at this moment is waited for, and then it may have been counted.
WITH withdrawn AS (
    UPDATE stripe_reports r
    SET state = 'withdrawn', settled_at = :now, fault = concat_ws('; ', r.fault, 'the hour owes less by now')
    FROM unnest(
        CAST(:customer_ids AS bigint[]), CAST(:meter_ids AS bigint[]), CAST(:period_ids AS bigint[]),
        CAST(:hours AS timestamptz[])
    ) AS k (customer_id, meter_id, period_id, hour)
    WHERE r.account = :account
        AND (r.customer_id, r.meter_id, r.period_id, r.hour) = (k.customer_id, k.meter_id, k.period_id, k.hour)
        AND r.state IN ('pending', 'parked') AND r.first_sent_at IS NULL
    RETURNING r.customer_id, r.meter_id, r.period_id, r.hour, r.value
)
UPDATE stripe_ledger l
SET reported = l.reported - w.units
FROM (
    SELECT customer_id, meter_id, period_id, hour, sum(value) AS units
    FROM withdrawn
    GROUP BY customer_id, meter_id, period_id, hour
) AS w
WHERE l.account = :account
    AND (l.customer_id, l.meter_id, l.period_id, l.hour) = (w.customer_id, w.meter_id, w.period_id, w.hour)
RETURNING 1
