-- Everything before `accrued_until` now has its accrual. The level itself is the drain's to set.
UPDATE levels l
SET opening = closed.opening, accrued_until = closed.accrued_until
FROM unnest(
    CAST(:customer_ids AS bigint[]), CAST(:meter_ids AS bigint[]),
    CAST(:openings AS bigint[]), CAST(:until AS timestamptz[])
) AS closed (customer_id, meter_id, opening, accrued_until)
WHERE l.customer_id = closed.customer_id AND l.meter_id = closed.meter_id
