-- Whether a period `p` may cost something: of its plan, or because more was used than costs nothing on it.
(
    p.plan <> ALL(:free_plans)
    OR EXISTS (
        SELECT FROM period_totals t JOIN meters m ON m.id = t.meter_id
        WHERE t.customer_id = p.customer_id AND t.period_id = p.id
            AND t.units > CAST(CAST(:free_uses AS jsonb) -> p.plan ->> m.key AS numeric)
    )
    OR EXISTS (
        SELECT FROM levels l JOIN meters m ON m.id = l.meter_id
        WHERE l.customer_id = p.customer_id
            AND greatest(l.level, l.opening) > CAST(CAST(:free_uses AS jsonb) -> p.plan ->> m.key AS numeric)
    )
)
