"""Bills of the default catalog, worked out by hand, from usage that went the whole way in."""

from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal

import pytest

from metering.accounts.customers import find_customer
from metering.billing.estimate import Estimate, estimate, usage_quantities
from metering.catalog import Price
from metering.clock import to_micros
from metering.errors import ConfigurationError
from metering.models import Period
from tests.factories.world import World

GIB = 1024**3
NOTHING = "0.00"


@dataclass(frozen=True)
class Invoice:
    """Usage of ten days, and what each line of its bill comes to; a meter that is left out costs nothing."""

    plan: str
    total: str
    base_fee: str
    used: dict[str, object] = field(default_factory=dict)
    lines: dict[str, str] = field(default_factory=dict)


INVOICES = {
    "nothing used": Invoice(plan="free", base_fee="0.00", total="0.00"),
    "all that the free plan allows": Invoice(
        plan="free",
        used={
            "api_call": 1_000,
            "tokens": 10_000,
            "compute_seconds": 60,
            "messages": 100,
            "seats": 1,
            "storage_bytes": 100 * 1024**2,
        },
        base_fee="0.00",
        total="0.00",
    ),
    "exactly what is included": Invoice(
        plan="pro",
        used={"api_call": 10_000, "tokens": 100_000, "compute_seconds": 3_600, "messages": 1_000, "seats": 1},
        base_fee="49.00",
        total="49.00",
    ),
    # 0.001 + 0.00001 + 0.0001 + 0.002 each round to nothing by themselves; the seat is ten dollars
    "one over": Invoice(
        plan="pro",
        used={"api_call": 10_001, "tokens": 100_001, "compute_seconds": 3_601, "messages": 1_001, "seats": 2},
        base_fee="49.00",
        lines={"seats": "10.00"},
        total="59.00",
    ),
    # 10 GB x 240 h / 730 h = 3.29 GB-months, less than five
    "ten gigabytes for ten days": Invoice(
        plan="pro", used={"storage_bytes": 10 * GIB}, base_fee="49.00", total="49.00"
    ),
    # 100 GB x 240 h / 730 h = 32.876712… GB-months, less 5 = 27.876712…, at 0.02 = 0.557534…
    "a hundred gigabytes for ten days": Invoice(
        plan="pro", used={"storage_bytes": 100 * GIB}, base_fee="49.00", lines={"storage_bytes": "0.56"}, total="49.56"
    ),
    # 10,001.234567 s beyond what is included, at 0.0001 = 1.0001234567
    "compute to the microsecond": Invoice(
        plan="pro",
        used={"compute_seconds": "13601.234567"},
        base_fee="49.00",
        lines={"compute_seconds": "1.00"},
        total="50.00",
    ),
    # 2,345 x 0.001 = 2.345: half a cent goes up
    "half a cent": Invoice(
        plan="pro", used={"api_call": 12_345}, base_fee="49.00", lines={"api_call": "2.35"}, total="51.35"
    ),
    # Each line is rounded by itself: 0.005 + 0.005 are two cents, not one
    "two halves": Invoice(
        plan="free",
        used={"api_call": 10_005, "tokens": 100_500},
        base_fee="0.00",
        lines={"api_call": "0.01", "tokens": "0.01"},
        total="0.02",
    ),
    # 1,240,000 x 0.001; 49,900,000 x 0.00001; 96,400 x 0.0001; 24,000 x 0.002; 11 x 10;
    # 1,024 GB x 240 h / 730 h = 336.657534…, less 5 = 331.657534…, at 0.02 = 6.633150…
    "an enterprise": Invoice(
        plan="enterprise",
        used={
            "api_call": 1_250_000,
            "tokens": 50_000_000,
            "compute_seconds": 100_000,
            "messages": 25_000,
            "seats": 12,
            "storage_bytes": 1_024 * GIB,
        },
        base_fee="499.00",
        lines={
            "api_call": "1240.00",
            "storage_bytes": "6.63",
            "tokens": "499.00",
            "compute_seconds": "9.64",
            "messages": "48.00",
            "seats": "110.00",
        },
        total="2412.27",
    ),
}


@pytest.mark.parametrize("closed", [False, True], ids=["hours open", "hours closed"])
@pytest.mark.parametrize("invoice", INVOICES.values(), ids=INVOICES)
def test_a_bill_worked_out_by_hand(world: World, invoice: Invoice, closed: bool) -> None:
    world.customer(plan=invoice.plan)
    for meter, quantity in invoice.used.items():
        use(world, meter, quantity)
    world.drain()
    world.advance(days=10)
    if closed:
        world.close_hours()

    bill = bill_of(world)

    assert amounts(bill) == {None: invoice.base_fee} | dict.fromkeys(world.catalog.prices, NOTHING) | invoice.lines
    assert str(bill.total) == invoice.total
    assert bill.total == sum(line.amount for line in bill.lines)
    assert (bill.plan, bill.currency, bill.as_of) == (invoice.plan, "USD", world.now)


def test_ten_gigabytes_for_exactly_ten_days_in_gb_months(world: World) -> None:
    world.customer(plan="pro")
    use(world, "storage_bytes", 10 * GIB)
    world.drain()
    world.advance(days=10)

    line = next(line for line in bill_of(world).lines if line.meter == "storage_bytes").usage

    assert line is not None
    assert str(line.quantity).startswith("3.2876712328767123287671232876712328767")  # 240/73
    assert (line.unit, line.included, line.billable, line.unit_price) == ("GB-month", 5, 0, Decimal("0.02"))


def test_three_seats_at_the_peak_and_one_after_cost_three(world: World) -> None:
    world.customer(plan="pro")
    use(world, "seats", 3)
    world.advance(hours=5)
    use(world, "seats", 1)
    world.drain()
    world.advance(days=3)

    bill = bill_of(world)

    assert amounts(bill)["seats"] == "20.00"
    assert str(bill.total) == "69.00"


def test_the_lines_stand_in_the_order_of_the_catalog_after_the_base_fee(world: World) -> None:
    world.customer(plan="pro")

    bill = bill_of(world)

    assert [line.name for line in bill.lines] == [
        *("Pro plan", "API calls", "Storage", "Tokens", "Compute", "Messages", "Seats")
    ]


def test_a_period_that_is_over_is_billed_to_its_end_and_not_beyond(world: World) -> None:
    customer = world.customer(plan="enterprise")
    november, december = world.periods()[:2]
    world.now = november.ends_at - timedelta(days=10)
    use(world, "storage_bytes", 100 * GIB)
    use(world, "api_call", 11_000)
    world.now = november.ends_at + timedelta(days=2)
    use(world, "api_call", 500_000)
    use(world, "seats", 9)
    world.drain()

    bill = estimate(world.session, world.catalog, customer, november, now=world.now)

    assert (bill.starts_at, bill.ends_at, bill.as_of) == (november.starts_at, november.ends_at, november.ends_at)
    assert {key: amount for key, amount in amounts(bill).items() if amount != NOTHING} == {
        None: "499.00",
        "api_call": "1.00",
        "storage_bytes": "0.56",
    }
    assert usage_quantities(world.session, customer.id, december.id) == {"api_call": 500_000}


def test_what_others_use_is_not_billed(world: World) -> None:
    world.customer()
    world.customer("other")
    for meter in world.catalog.meters:
        use(world, meter, 10**6, customer="other")
    world.drain()
    world.advance(days=10)

    assert str(bill_of(world).total) == "0.00"


def test_a_bill_takes_as_many_statements_however_many_events_there_were(world: World) -> None:
    world.customer()
    use(world, "seats", 1)
    use(world, "api_call", 1)
    world.drain()
    with world.counting() as for_few:
        bill_of(world)
    for _ in range(150):
        world.advance(minutes=7)
        world.record(world.event(), world.event(meter="seats"), world.event(meter="storage_bytes", quantity=9))
    world.drain()

    with world.counting() as for_many:
        bill_of(world)

    assert for_many == for_few


def test_a_plan_may_have_its_own_price_and_a_meter_without_a_price_has_no_line(world: World) -> None:
    world.customer(plan="pro")
    use(world, "api_call", 250)
    world.drain()
    own = Price(model="package", unit="100 calls", size=Decimal(100), amount=Decimal("2.5"))
    pro = world.catalog.plans["pro"].model_copy(update={"prices": {"api_call": own}})
    seats = {"seats": world.catalog.prices["seats"]}
    world.catalog = world.catalog.model_copy(update={"plans": {"pro": pro}, "prices": seats})

    assert amounts(bill_of(world)) == {None: "49.00", "api_call": "7.50", "seats": "0.00"}


def test_a_plan_that_left_the_catalog_is_named(world: World) -> None:
    world.customer(plan="pro")
    world.catalog = world.catalog.model_copy(update={"plans": {"free": world.catalog.plans["free"]}})

    with pytest.raises(ConfigurationError, match="'pro'"):
        bill_of(world)


def test_a_price_on_a_meter_that_has_no_total_is_refused_rather_than_billed_as_nothing(world: World) -> None:
    world.customer()
    average = world.catalog.meters["tokens"].model_copy(update={"aggregation": "avg"})
    world.catalog = world.catalog.model_copy(update={"meters": world.catalog.meters | {"tokens": average}})

    with pytest.raises(ConfigurationError, match=r"prices\.tokens"):
        bill_of(world)


# -- helpers ---------------------------------------------------------------------------------------------------------


def use(world: World, meter: str, quantity: object, *, customer: str = "acme") -> None:
    """Levels are set, everything else is added."""
    outright = world.catalog.meters[meter].is_level
    world.record(world.event(customer, meter, quantity, outright=outright, time=to_micros(world.now)))


def bill_of(world: World, customer: str = "acme") -> Estimate:
    """The bill of the current period."""
    period = current(world, customer)
    owner = find_customer(world.session, customer)
    found = estimate(world.session, world.catalog, owner, period, now=world.now)
    world.session.commit()
    return found


def current(world: World, customer: str) -> Period:
    return next(period for period in world.periods(customer) if period.starts_at <= world.now < period.ends_at)


def amounts(bill: Estimate) -> dict[str | None, str]:
    return {line.meter: str(line.amount) for line in bill.lines}
