-- What these hours owe beyond what was reported becomes report rows, and `reported` rises by it. The ledger rows are
-- locked already, so this statement sees everything that was committed before it began, and nobody else can do the same.
-- An hour of a level without an accrual is not closed (any more): it owes nothing yet, and nothing is taken back. An hour
-- of which a row is being taken back at Stripe is left out until that is done. Stripe is asked to take back no more than
-- it was told or may have been; what is beyond that was written off, and is balanced by a row that is so as well.
-- It is owed the whole units of its meter that the hour's usage holds: never more than was used.
WITH delta AS (
    SELECT
        l.account, l.customer_id, l.meter_id, l.period_id, l.hour,
        l.revision + 1 AS revision, div(owed.units, s.unit) - l.reported AS units,
        greatest(div(owed.units, s.unit) - l.reported, -greatest(told.units, 0)) AS told_units
    FROM unnest(
        CAST(:customer_ids AS bigint[]), CAST(:meter_ids AS bigint[]), CAST(:period_ids AS bigint[]),
        CAST(:hours AS timestamptz[])
    ) AS k (customer_id, meter_id, period_id, hour)
    JOIN stripe_ledger l
        ON l.account = :account
        AND (l.customer_id, l.meter_id, l.period_id, l.hour) = (k.customer_id, k.meter_id, k.period_id, k.hour)
    JOIN meters m ON m.id = l.meter_id
    JOIN stripe_meters s ON s.account = l.account AND s.meter_id = l.meter_id
    CROSS JOIN LATERAL (
        SELECT sum(r.units) AS units
        FROM rollups r
        WHERE m.kind <> 'level'
            AND (r.customer_id, r.meter_id, r.period_id, r.hour) = (l.customer_id, l.meter_id, l.period_id, l.hour)
        UNION ALL
        SELECT a.units
        FROM accruals a
        WHERE m.kind = 'level'
            AND (a.customer_id, a.meter_id, a.period_id, a.hour) = (l.customer_id, l.meter_id, l.period_id, l.hour)
        UNION ALL
        -- Its period does not reach to this hour any more: what it cost is accrued in another.
        SELECT 0
        FROM periods p
        WHERE m.kind = 'level' AND p.id = l.period_id
            AND (p.ends_at <= l.hour OR p.starts_at >= l.hour + interval '1 hour')
    ) AS owed
    CROSS JOIN LATERAL (
        SELECT
            coalesce(sum(r.value) FILTER (WHERE r.state <> 'written_off'), 0) AS units,
            coalesce(bool_or(r.state = 'cancelling'), FALSE) AS are_falling
        FROM stripe_reports r
        WHERE r.state <> 'withdrawn' AND (r.account, r.customer_id, r.meter_id, r.period_id, r.hour)
            = (l.account, l.customer_id, l.meter_id, l.period_id, l.hour)
    ) AS told
    WHERE div(owed.units, s.unit) <> l.reported AND NOT told.are_falling
),
raised AS (
    UPDATE stripe_ledger l
    SET reported = l.reported + d.units, revision = d.revision
    FROM delta d
    WHERE l.account = d.account
        AND (l.customer_id, l.meter_id, l.period_id, l.hour) = (d.customer_id, d.meter_id, d.period_id, d.hour)
),
parts AS (
    SELECT
        d.account, d.customer_id, d.meter_id, d.period_id, d.hour, d.revision, piece.state, piece.fault,
        sign(d.units) * least(abs(piece.units) - n * CAST(:most AS numeric), :most) AS value,
        row_number() OVER (
            PARTITION BY d.customer_id, d.meter_id, d.period_id, d.hour ORDER BY piece.state, n
        ) - 1 AS part
    FROM delta d
    CROSS JOIN LATERAL (
        VALUES
            (d.told_units, 'pending', NULL),
            (d.units - d.told_units, 'written_off', 'Stripe was never told of what is taken back here')
    ) AS piece (units, state, fault)
    CROSS JOIN LATERAL generate_series(0, ceil(abs(piece.units) / CAST(:most AS numeric))::integer - 1) AS n
)
INSERT INTO stripe_reports (
    account, customer_id, meter_id, period_id, hour, revision, part, event_name, stripe_customer_id, value, timestamp,
    identifier, state, fault, settled_at, next_try_at, created_at
)
SELECT
    d.account, d.customer_id, d.meter_id, d.period_id, d.hour, d.revision, d.part, s.event_name, c.stripe_customer_id,
    d.value,
    -- The start of the hour, or of the period where that begins within it; Stripe knows whole seconds.
    to_timestamp(ceil(extract(epoch FROM greatest(d.hour, p.starts_at)))),
    -- Another installation that reports to the same account has customers made at other moments.
    concat_ws(
        '-', d.customer_id, d.meter_id, d.period_id, to_char(d.hour AT TIME ZONE 'UTC', 'YYYYMMDDHH24'), d.revision,
        d.part, left(md5(concat_ws('/', c.key, extract(epoch FROM c.created_at), s.event_name)), 12)
    ),
    d.state, d.fault, CASE WHEN d.state = 'written_off' THEN CAST(:now AS timestamptz) END, :now, :now
FROM parts d
JOIN customers c ON c.id = d.customer_id
JOIN periods p ON p.id = d.period_id
JOIN stripe_meters s ON s.account = d.account AND s.meter_id = d.meter_id
ORDER BY d.hour, d.customer_id, d.meter_id, d.period_id, d.part
RETURNING id
