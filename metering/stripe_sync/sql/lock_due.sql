SELECT r.id, r.attempts, r.first_sent_at, r.event_name, r.stripe_customer_id, r.value, r.identifier, r.timestamp,
    s.customer_payload_key, s.value_payload_key
FROM stripe_reports r
JOIN stripe_meters s ON s.account = r.account AND s.meter_id = r.meter_id
WHERE r.id = :id AND r.state = 'pending' AND r.next_try_at <= :now
FOR UPDATE OF r SKIP LOCKED
