-- What was reported under the id of a customer, or over a meter, that Stripe does not know is counted nowhere: its rows are withdrawn and their hours
-- noted, so that they owe the usage again, to whoever the customer is then. The ledger goes on to be the sum of its
-- rows. Rows that were written off, or seen in a summary, are decisions, and stay.
WITH taken AS (
    UPDATE stripe_reports
    SET state = 'withdrawn', settled_at = :now, fault = :why
    WHERE account = :account
        AND (
            customer_id = :customer_id AND stripe_customer_id = CAST(:stripe_customer_id AS text)
            OR meter_id = CAST(:meter_id AS bigint)
        )
        AND state NOT IN ('written_off', 'observed', 'withdrawn')
    RETURNING *
),
hours AS (
    SELECT account, customer_id, meter_id, period_id, hour, sum(value) AS units
    FROM taken
    GROUP BY account, customer_id, meter_id, period_id, hour
),
lowered AS (
    UPDATE stripe_ledger l
    SET reported = l.reported - h.units
    FROM hours h
    WHERE (l.account, l.customer_id, l.meter_id, l.period_id, l.hour)
        = (h.account, h.customer_id, h.meter_id, h.period_id, h.hour)
),
noted AS (
    INSERT INTO stripe_changes AS c (account, customer_id, meter_id, period_id, hour)
    SELECT account, customer_id, meter_id, period_id, hour
    FROM hours
    ORDER BY customer_id, meter_id, period_id, hour
    ON CONFLICT (account, customer_id, meter_id, period_id, hour) DO UPDATE SET hour = c.hour WHERE FALSE
)
SELECT id FROM taken
