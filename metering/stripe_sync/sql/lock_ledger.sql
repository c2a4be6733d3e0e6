SELECT 1
FROM stripe_ledger l
WHERE l.account = :account
    AND (l.customer_id, l.meter_id, l.period_id, l.hour) IN (
        SELECT * FROM unnest(
            CAST(:customer_ids AS bigint[]), CAST(:meter_ids AS bigint[]), CAST(:period_ids AS bigint[]),
            CAST(:hours AS timestamptz[])
        )
    )
ORDER BY l.customer_id, l.meter_id, l.period_id, l.hour
FOR UPDATE OF l
