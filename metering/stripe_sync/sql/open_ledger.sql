INSERT INTO stripe_ledger (account, customer_id, meter_id, period_id, hour)
SELECT :account, k.customer_id, k.meter_id, k.period_id, k.hour
FROM unnest(
    CAST(:customer_ids AS bigint[]), CAST(:meter_ids AS bigint[]), CAST(:period_ids AS bigint[]),
    CAST(:hours AS timestamptz[])
) AS k (customer_id, meter_id, period_id, hour)
ORDER BY k.customer_id, k.meter_id, k.period_id, k.hour
ON CONFLICT DO NOTHING
