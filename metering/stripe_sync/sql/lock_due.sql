SELECT r.id, r.account, r.customer_id, r.meter_id, r.period_id, r.hour, r.state, r.attempts, r.first_sent_at,
    r.last_sent_at, r.cancel_sent_at, r.event_name, r.stripe_customer_id, r.value, r.identifier, r.timestamp,
    s.stripe_id AS stripe_meter_id, s.customer_payload_key, s.value_payload_key
FROM stripe_reports r
JOIN stripe_meters s ON s.account = r.account AND s.meter_id = r.meter_id
WHERE r.id = :id AND r.state IN ('pending', 'cancelling', 'doubtful') AND r.next_try_at <= :now
FOR UPDATE OF r SKIP LOCKED
