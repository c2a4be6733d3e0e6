"""A level that nobody touches goes on costing: in the estimate, and in what Stripe is owed."""

from flask.testing import FlaskClient
from sqlalchemy import func, select

from metering.models import Accrual, MeterRow, StripeMeter, StripeReport
from metering.store.meters import meter_ids
from metering.stripe_sync.ledger import owe
from tests.factories.subscriptions import subscribed
from tests.factories.world import World

DAY = 24 * 3600


def test_a_file_kept_for_ten_idle_days_is_billed_for_ten_days(world: World, client: FlaskClient) -> None:
    """Given 1,000,000 bytes put once, when ten days pass without a call, then ten days of storage are on the books."""
    customer = world.customer(stripe_customer_id="cus_1")
    key = world.key(customer, "meter", "usage:read")
    link_to_stripe(world)
    subscribed(world.session, customer, "test")
    world.session.commit()
    headers = {"Authorization": f"Bearer {key.secret}"}
    assert client.put("/api/v1/sample/files/a.bin", data=b"x" * 1_000_000, headers=headers).status_code in (200, 201)
    world.drain()
    assert world.used("storage_bytes") == 1_000_000

    world.advance(days=10)
    world.drain()

    line = next(
        line
        for line in client.get("/api/v1/estimate", headers=headers).json["lines"]
        if line["meter"] == "storage_bytes"
    )
    # 1,000,000 bytes x 864,000 s / (1024^3 bytes x 730 h x 3600 s) = 0.000306188… GB-months
    assert round(line["quantity"], 9) == 0.000306188

    world.close_hours()
    while owe(world.session, "test", now=world.now, settle_seconds=0):
        world.session.commit()
    owed = world.session.scalar(
        select(func.sum(StripeReport.value)).join(MeterRow, MeterRow.id == StripeReport.meter_id)
    )
    hours = world.session.scalar(select(func.count()).select_from(Accrual))
    assert hours == 10 * 24
    assert owed == 1_000_000 * 10 * DAY


def link_to_stripe(world: World) -> None:
    """Report storage alone, to an account of the test's."""
    world.session.add(
        StripeMeter(
            account="test",
            meter_id=meter_ids(world.session)["storage_bytes"],
            stripe_id="mtr_1",
            event_name="storage_bytes",
            customer_payload_key="stripe_customer_id",
            value_payload_key="value",
        )
    )
    world.session.commit()
