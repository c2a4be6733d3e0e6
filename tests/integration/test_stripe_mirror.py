"""What Stripe says of subscriptions and invoices is what the customer's plan, periods and invoices follow."""

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select

from metering.errors import Conflict
from metering.models import AuditEntry, Customer, Invoice, StripeSubscription, WebhookDelivery
from metering.notify.endpoints import EVENTS, create_endpoint
from metering.stripe_sync.gateway import StripeFailed
from metering.stripe_sync.invoices import list_invoices, mirror_invoice
from metering.stripe_sync.mirror import mirror
from metering.stripe_sync.plans import PlanUnknown
from tests.factories import canned
from tests.factories.canned import CUSTOMER, CannedStripe
from tests.factories.world import START, World

BEGUN = START - timedelta(minutes=7)
NEXT = datetime(2026, 12, 10, 11, 53, tzinfo=UTC)
AFTER = datetime(2027, 1, 10, 11, 53, tzinfo=UTC)
NOVEMBER, DECEMBER, JANUARY = (datetime(2026 + month // 12, month % 12 + 1, 1, tzinfo=UTC) for month in (10, 11, 12))


@pytest.fixture
def stripe() -> CannedStripe:
    return CannedStripe()


@pytest.fixture
def acme(world: World) -> Customer:
    return world.customer("acme", "free", stripe_customer_id=CUSTOMER)


@pytest.fixture
def follow(world: World, stripe: CannedStripe) -> Callable[..., str | None]:
    """Lay out a subscription at Stripe, and let us be told of it."""

    def told(start: datetime = BEGUN, end: datetime = NEXT, **more: Any) -> str | None:
        made = stripe.put(canned.subscription(start, end, **more))
        return again(made["id"])

    def again(stripe_id: str) -> str | None:
        said = mirror(world.session, stripe.api, world.catalog, stripe_id, now=world.now)
        world.session.commit()
        world.send()
        return said

    told.again = again  # type: ignore[attr-defined]
    return told


def spans(world: World) -> list[tuple[datetime, datetime, str]]:
    return [(one.starts_at, one.ends_at, one.plan) for one in world.periods()]


def plan(world: World) -> str:
    """What the intake goes by."""
    return world.intake.standing("acme", ["api_call"], now=world.now).plan


@pytest.mark.parametrize("status", ["active", "trialing", "past_due"])
def test_what_was_bought_is_served_from_the_start_on(
    world: World, acme: Customer, follow: Callable[..., str | None], status: str
) -> None:
    assert follow(status=status) is None

    assert spans(world) == [(NOVEMBER, BEGUN, "free"), (BEGUN, NEXT, "pro"), (NEXT, AFTER, "pro")]
    assert (plan(world), acme.plan) == ("pro", "pro")


@pytest.mark.parametrize("status", ["paused", "unpaid"])
def test_what_is_not_paid_for_is_served_as_the_free_plan_until_it_is(
    world: World, acme: Customer, follow: Callable[..., str | None], status: str
) -> None:
    follow()
    world.advance(hours=1)

    follow(status=status)
    assert spans(world) == [(NOVEMBER, BEGUN, "free"), (BEGUN, NEXT, "free"), (NEXT, AFTER, "free")]
    assert plan(world) == "free"

    follow()
    assert plan(world) == "pro"


@pytest.mark.parametrize("status", ["incomplete", "incomplete_expired"])
def test_what_was_never_begun_changes_nothing(
    world: World, acme: Customer, follow: Callable[..., str | None], status: str
) -> None:
    follow(status=status)

    assert spans(world) == [(NOVEMBER, DECEMBER, "free"), (DECEMBER, JANUARY, "free")]


def test_a_cancellation_at_the_period_s_end_leads_back_to_months_from_there(
    world: World, acme: Customer, follow: Callable[..., str | None]
) -> None:
    follow()
    follow(cancel_at_period_end=True)

    assert spans(world)[1:] == [(BEGUN, NEXT, "pro"), (NEXT, JANUARY, "free")]
    assert plan(world) == "pro"

    world.now = NEXT + timedelta(seconds=40)
    follow(status="canceled", cancel_at_period_end=True, ended_at=int(NEXT.timestamp()))
    assert [one[:2] for one in spans(world)[1:]] == [
        (BEGUN, NEXT),
        (NEXT, JANUARY),
        (JANUARY, datetime(2027, 2, 1, tzinfo=UTC)),
    ]
    assert plan(world) == "free"


def test_a_cancellation_that_is_taken_back_is_forgotten(
    world: World, acme: Customer, follow: Callable[..., str | None]
) -> None:
    follow(cancel_at_period_end=True)
    follow()

    assert spans(world)[1:] == [(BEGUN, NEXT, "pro"), (NEXT, AFTER, "pro")]


def test_a_cancellation_at_once_ends_the_period_there(
    world: World, acme: Customer, follow: Callable[..., str | None]
) -> None:
    follow()
    world.advance(days=3)
    ended = world.now - timedelta(seconds=5)

    follow(status="canceled", ended_at=int(ended.timestamp()))

    assert spans(world)[1:] == [(BEGUN, ended, "pro"), (ended, DECEMBER, "free"), (DECEMBER, JANUARY, "free")]


def test_an_old_cancellation_undoes_nothing_that_was_decided_since(
    world: World, acme: Customer, follow: Callable[..., str | None]
) -> None:
    follow()
    world.advance(days=3)
    ended = {"status": "canceled", "ended_at": int(world.now.timestamp())}
    follow(**ended)
    for period in world.periods()[2:]:
        period.plan = "enterprise"
    world.session.commit()

    follow(**ended)

    assert [one[2] for one in spans(world)] == ["free", "pro", "enterprise", "enterprise"]


def test_each_renewal_moves_the_periods_on(world: World, acme: Customer, follow: Callable[..., str | None]) -> None:
    follow()
    world.now = NEXT + timedelta(hours=1)

    follow(start=NEXT, end=AFTER, start_date=int(BEGUN.timestamp()), billing_cycle_anchor=int(BEGUN.timestamp()))

    assert [one[:2] for one in spans(world)][:3] == [(NOVEMBER, BEGUN), (BEGUN, NEXT), (NEXT, AFTER)]
    assert world.periods()[-1].starts_at == AFTER


def test_a_trial_is_followed_by_the_cycle_from_its_end(
    world: World, acme: Customer, follow: Callable[..., str | None]
) -> None:
    trial_end = BEGUN + timedelta(days=14)

    follow(end=trial_end, status="trialing", billing_cycle_anchor=int(trial_end.timestamp()))

    assert [one[:2] for one in spans(world)[1:]] == [
        (BEGUN, trial_end),
        (trial_end, datetime(2026, 12, 24, 11, 53, tzinfo=UTC)),
    ]


def test_messages_in_any_order_and_twice_end_in_the_same_state(
    world: World, acme: Customer, stripe: CannedStripe, follow: Callable[..., str | None]
) -> None:
    """Given a subscription that was ended and another that was begun, when we hear of both often and in any order, then
    the periods are always the same: each message makes us look anew."""
    ended = BEGUN + timedelta(days=1)
    world.now = BEGUN + timedelta(days=1, minutes=1)
    stripe.put(canned.subscription(BEGUN, NEXT, id="sub_1", status="canceled", ended_at=int(ended.timestamp())))
    begun = ended + timedelta(seconds=30)
    stripe.put(canned.subscription(begun, begun + timedelta(days=30), id="sub_2", plan="enterprise"))
    expected = [(NOVEMBER, begun, "free"), (begun, begun + timedelta(days=30), "enterprise")]
    told = ["sub_1", "sub_2"] * 3
    random.Random(7).shuffle(told)

    for stripe_id in ["sub_1", "sub_2", *told]:
        follow.again(stripe_id)  # type: ignore[attr-defined]

    assert spans(world)[-2][:3] == expected[-1]
    assert plan(world) == "enterprise"
    before = spans(world)
    follow.again("sub_1")  # type: ignore[attr-defined]
    assert spans(world) == before
    actions = world.session.scalars(select(AuditEntry.action).where(AuditEntry.action == "stripe.subscription")).all()
    assert len(actions) <= 2


def test_the_end_of_another_subscription_leaves_the_one_that_runs(
    world: World, acme: Customer, follow: Callable[..., str | None]
) -> None:
    world.now = BEGUN + timedelta(days=2)
    follow()
    ended = BEGUN + timedelta(days=1)
    follow(id="sub_2", plan="enterprise", start=BEGUN, status="canceled", ended_at=int(ended.timestamp()))

    assert plan(world) == "pro"
    assert spans(world)[1:] == [(BEGUN, NEXT, "pro"), (NEXT, AFTER, "pro")]


def test_a_customer_is_known_by_the_metadata_of_stripe_s(
    world: World, stripe: CannedStripe, follow: Callable[..., str | None]
) -> None:
    world.customer("acme", "free")
    stripe.put(canned.customer("acme"))

    assert follow() is None

    assert world.find("acme").stripe_customer_id == CUSTOMER
    assert world.session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)).first() == "stripe.customer"


def test_somebody_else_s_subscription_is_left_alone(
    world: World, stripe: CannedStripe, follow: Callable[..., str | None]
) -> None:
    world.customer("acme", "free")
    stripe.put(canned.customer("stranger"))

    assert follow() == f"{CUSTOMER} is no customer of ours"

    assert world.session.scalars(select(StripeSubscription)).all() == []


def test_two_customers_at_stripe_for_one_of_ours_are_a_fault(
    world: World, stripe: CannedStripe, follow: Callable[..., str | None]
) -> None:
    world.customer("acme", "free", stripe_customer_id="cus_other")
    stripe.put(canned.customer("acme"))

    with pytest.raises(Conflict, match="cus_other"):
        follow()


def test_a_subscription_to_nothing_that_is_known_is_a_fault_and_changes_nothing(
    world: World, acme: Customer, follow: Callable[..., str | None]
) -> None:
    with pytest.raises(PlanUnknown, match="metering_plan"):
        follow(plan=None)
    world.session.rollback()

    assert world.find("acme").plan == "free"
    assert spans(world) == [(NOVEMBER, DECEMBER, "free"), (DECEMBER, JANUARY, "free")]


def test_one_that_has_ended_has_ended_though_its_plan_is_sold_no_more(
    world: World, acme: Customer, follow: Callable[..., str | None]
) -> None:
    follow()
    world.advance(days=1)
    ended_at = int(world.now.timestamp())

    follow(plan=None, status="canceled", ended_at=ended_at)

    assert world.session.scalars(select(StripeSubscription.status)).one() == "canceled"
    assert plan(world) == "free"


def test_what_stripe_does_not_know_is_a_fault(world: World, acme: Customer, stripe: CannedStripe) -> None:
    with pytest.raises(StripeFailed):
        mirror(world.session, stripe.api, world.catalog, "sub_gone", now=world.now)


# -- invoices ----------------------------------------------------------------------------------------------------------


def told_of_invoice(world: World, stripe: CannedStripe, **changed: Any) -> str | None:
    stripe.put(canned.invoice(**changed))
    said = mirror_invoice(world.session, stripe.api, changed.get("id", "in_1"), now=world.now)
    world.session.commit()
    return said


def test_an_invoice_is_listed_once_it_is_final_and_follows_its_state(
    world: World, acme: Customer, stripe: CannedStripe
) -> None:
    amounts = {"currency": "usd", "total": 4912, "amount_due": 4912, "amount_paid": 0, "number": "A-1"}
    told_of_invoice(world, stripe, status="draft", **amounts)
    assert list_invoices(world.session, acme.id) == []

    told_of_invoice(world, stripe, status="open", hosted_invoice_url="https://pay.example/1", **amounts)
    (shown,) = list_invoices(world.session, acme.id)
    assert (shown.number, shown.status, shown.currency) == ("A-1", "open", "USD")
    assert (shown.total, shown.amount_due, shown.hosted_url) == (
        Decimal("49.12"),
        Decimal("49.12"),
        "https://pay.example/1",
    )

    told_of_invoice(world, stripe, status="paid", **(amounts | {"amount_due": 4912, "amount_paid": 4912}))
    assert [one.status for one in list_invoices(world.session, acme.id)] == ["paid"]
    assert len(world.session.scalars(select(Invoice)).all()) == 1


def hooks(world: World) -> list[tuple[str, dict[str, Any]]]:
    """What waits to be sent to endpoints of the customer's, in order."""
    rows = world.session.scalars(select(WebhookDelivery).order_by(WebhookDelivery.id))
    return [(row.event, json.loads(row.body)["data"]) for row in rows]


@pytest.fixture
def endpoint(world: World, acme: Customer) -> None:
    create_endpoint(world.session, acme, url="https://hooks.acme.example/", events=list(EVENTS), now=world.now)
    world.session.commit()


@pytest.mark.usefixtures("endpoint")
def test_webhooks_tell_of_an_invoice_when_it_is_issued_and_when_it_is_paid(
    world: World, acme: Customer, stripe: CannedStripe
) -> None:
    amounts = {"currency": "usd", "total": 4912, "amount_due": 4912, "amount_paid": 0, "number": "A-1"}
    url = "https://pay.example/1"
    for status in ("draft", "open", "open", "paid", "paid"):
        told_of_invoice(world, stripe, status=status, hosted_invoice_url=url, **amounts)

    facts = {"customer": "acme", "number": "A-1", "currency": "USD", "total": "49.12", "url": url}
    assert hooks(world) == [
        ("invoice.issued", {**facts, "status": "open"}),
        ("invoice.paid", {**facts, "status": "paid"}),
    ]


@pytest.mark.usefixtures("endpoint")
def test_a_webhook_tells_of_a_plan_that_changed_and_of_none_that_did_not(
    world: World, acme: Customer, follow: Callable[..., str | None]
) -> None:
    follow()
    follow()
    world.advance(hours=1)
    follow(status="unpaid")

    world.advance(hours=1)
    follow(cancel_at=int(datetime(2026, 11, 25, tzinfo=UTC).timestamp()))

    told = [tuple(data[name] for name in ("customer", "status", "from", "to", "ends_at")) for _, data in hooks(world)]
    assert told == [
        ("acme", "active", "free", "pro", None),
        ("acme", "unpaid", "pro", "free", None),
        ("acme", "active", "free", "pro", "2026-11-25T00:00:00Z"),
    ]
    assert {event for event, _ in hooks(world)} == {"subscription.changed"}


def test_yen_have_no_hundredths(world: World, acme: Customer, stripe: CannedStripe) -> None:
    told_of_invoice(world, stripe, status="open", currency="jpy", total=4912)

    assert world.session.scalars(select(Invoice.total)).one() == 4912


def test_invoices_come_newest_first_in_pages(world: World, acme: Customer, stripe: CannedStripe) -> None:
    for number in (3, 1, 2):
        finalized = {"status_transitions": {"finalized_at": int(START.timestamp()) + number}}
        told_of_invoice(world, stripe, id=f"in_{number}", number=f"A-{number}", status="paid", **finalized)

    first = list_invoices(world.session, acme.id, limit=2)
    rest = list_invoices(world.session, acme.id, before=first[-1].id)

    assert [one.number for one in (*first, *rest)] == ["A-3", "A-2", "A-1"]
