"""What Stripe invoices for a catalog that was pushed is what we estimate, line by line."""

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from redis import Redis
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from metering.embedded import Addresses
from metering.store.verify import verify
from metering.stripe_sync.previews import invoice_preview
from metering.stripe_sync.reconcile import reconcile
from metering.stripe_sync.reporting import gateway_for
from tests.factories.billed_month import BEGIN, BilledMonth, Used, as_table, ours
from tests.factories.standin import StandinProcess

GIB = 1024**3


@pytest.fixture
def month(
    session: Session, redis: Redis, engine: Engine, standin: StandinProcess, servers: Addresses, tmp_path: Path
) -> BilledMonth:
    return BilledMonth(session, redis, engine, standin, servers, tmp_path)


def test_a_month_of_the_default_catalog(month: BilledMonth) -> None:
    month.push()
    used = [
        Used("api_call", 9_999, 0, 3),
        Used("api_call", 2_346, 17, 5),
        Used("tokens", 100_499, 2),
        Used("compute_seconds", Decimal("13601.234567"), 8),
        Used("messages", 1_003, 30, 23),
        Used("seats", 2, 1),
        Used("seats", 5, 4),
        Used("seats", 1, 6),
        Used("storage_bytes", 400 * GIB + 7, 3, 1),
        Used("storage_bytes", 0, 6, 13),
    ]

    bill = month.live("pro", used)

    expected = {
        "metering_plan_pro": "49.00",
        "metering_meter_api_call": "2.35",  # 2,345 x 0.001 = 2.345
        "metering_meter_tokens": "0.00",
        "metering_meter_compute_seconds": "1.00",
        "metering_meter_messages": "0.01",
        "metering_meter_seats": "40.00",
        "metering_meter_storage_bytes": "0.82",  # 400 GB x 84 hours / 730 = 46.03; 41.03 x 0.02
    }
    assert ours(bill) == {product: Decimal(amount) for product, amount in expected.items()}
    assert month.invoiced() == ours(bill)
    with month.runtime() as runtime:
        assert [check.name for check in verify(runtime.engine, runtime.redis) if not check.holds] == []
        assert [one for one in reconcile(runtime)[1] if one.differs] == []


def test_what_a_running_month_would_be_invoiced(month: BilledMonth) -> None:
    month.push()
    month.begin("pro")
    month.use(Used("api_call", 12_346, 2))
    month.use(Used("seats", 3, 3))
    month.report(BEGIN + timedelta(days=4))
    bill = month.estimated()
    with month.runtime() as runtime, runtime.transaction() as session:
        api = gateway_for(runtime.settings)
        customer = month.books.world.find("acme")

        found = invoice_preview(session, api, customer.id, BEGIN)

        assert found["api_call"] == Decimal("2.35")  # 2,346 x 0.001
        assert found == {line.meter: line.amount for line in bill.lines if line.meter}
        assert invoice_preview(session, api, customer.id, BEGIN + timedelta(days=1)) == {}


def test_usage_that_is_taken_back_is_so_in_the_units_of_the_meter(month: BilledMonth) -> None:
    """An hour of 400 GB becomes one of 390: the row of it is cancelled, and what is left is sent anew."""
    month.push()
    books, world = month.books, month.books.world
    books.customer()
    world.now = BEGIN + timedelta(hours=1)
    books.use(400 * GIB, meter="storage_bytes", outright=True)
    world.advance(hours=1, minutes=5)
    world.close_hours()
    books.tell_time()
    books.owe()
    books.send()
    (row,) = books.rows("accepted")
    assert row.value == 547_945_205  # 400 / 730 of a GB-month, in billionths

    with month.engine.begin() as connection:
        connection.execute(text("UPDATE accruals SET units = units / 400 * 390 WHERE units > 0"))
    books.owe()
    books.send()
    books.owe()
    books.send()

    assert sum(books.counted().values()) == 534_246_575
    books.check()
    assert [row.state for row in books.rows()] == ["withdrawn", "accepted"]


EXAMPLES = {
    "api_product": (
        "business",
        [
            Used("request", 1_345_678),
            Used("request", 1_000_000, 20),
            Used("traffic", 25 * GIB, 3),
            Used("mail", 12_000, 4),
            Used("mail", 1, 5),
        ],
    ),
    "storage": (
        "standard",
        [
            Used("stored", 250 * GIB),
            Used("stored", 500 * GIB, 10),
            Used("operation", 1_234_567, 11),
            Used("egress", 339 * GIB, 12),
            Used("egress", GIB, 13),
        ],
    ),
    "features": (
        "team",
        [Used("sso", 1, 10), Used("sso", 0, 20), Used("projects", 2), Used("projects", 7, 3), Used("projects", 1, 5)],
    ),
    "subscription_and_usage": (
        "starter",
        [
            Used("seats", 2),
            Used("seats", 5, 8),
            Used("tokens", 3_456_789, 9),
            Used("call_time", Decimal("12345.678"), 10),
        ],
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_worked_examples(month: BilledMonth, name: str, project_root: Path) -> None:
    """The documentation shows the bill that comes out, and Stripe invoices it."""
    month.use_catalog(project_root / "examples" / "catalogs" / f"{name}.toml")
    month.push()
    plan, used = EXAMPLES[name]

    bill = month.live(plan, used)

    assert as_table(bill) in (project_root / "docs" / "pricing-examples.md").read_text()
    assert month.invoiced() == ours(bill)


def test_no_usage_costs_the_base_fee(month: BilledMonth) -> None:
    month.push()

    bill = month.live("enterprise", [])

    assert bill.total == 499
    assert {product: amount for product, amount in month.invoiced().items() if amount} == {
        "metering_plan_enterprise": Decimal(499)
    }
