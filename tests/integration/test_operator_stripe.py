"""The console's buttons about Stripe, before a local Stripe: what each of them does to the books and over there, that
it is audited, and that nobody else finds it.
"""

from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select

from metering import jobs
from metering.models import AuditEntry, MeterRow, Reconciliation, StripeMeter, StripeReport
from metering.service import Metering
from metering.stripe_sync import stops
from tests.factories import managers
from tests.factories.console import parked_row
from tests.factories.people import Visitor, make_user
from tests.factories.shop import Shop

EMAIL = "op@metering.example"
ACTOR = f"user:{EMAIL}"


@pytest.fixture
def app(stripe_app: Flask) -> Flask:
    return stripe_app


@pytest.fixture
def operator(app: Flask, shop: Shop) -> Visitor:
    make_user(shop.world, EMAIL, operator=True)
    visitor = Visitor.of(app)
    visitor.log_in(EMAIL)
    return visitor


def entries(shop: Shop) -> list[tuple[str, str, Any]]:
    """The audit log, newest first."""
    shop.world.session.rollback()
    rows = shop.world.session.scalars(select(AuditEntry).order_by(AuditEntry.id.desc()))
    return [(one.actor, one.action, one.detail) for one in rows]


def pressed(shop: Shop, operator: Visitor, page: str, action: str, **fields: str) -> str:
    """What the console says once an operator has pressed a button that the customer's owner does not find."""
    assert shop.owner.submit("/account", action, **fields).status_code == 404
    answer = operator.submit(page, action, **fields)
    assert answer.status_code == 303, answer.text
    return operator.open(answer.location).text


def test_one_of_two_subscriptions_is_ended_without_a_bill(shop: Shop, operator: Visitor) -> None:
    shop.buy("pro")
    shop.deliver()
    first, second = shop.double()
    invoices = len(shop.client.v1.invoices.list().data)
    action = "/operator/customers/acme/end-double"

    said = pressed(shop, operator, "/operator/customers/acme", action, subscription=second, note="made by hand")

    assert "Refund at Stripe what it cost." in said
    assert [one.id for one in shop.client.v1.subscriptions.list({"status": "active"}).data] == [first]
    assert len(shop.client.v1.invoices.list().data) == invoices
    detail = {"subscription": second, "kept": [first], "note": "made by hand"}
    assert (ACTOR, "stripe.end_double", detail) in entries(shop)


def test_a_customer_is_linked_with_one_that_stripe_knows(shop: Shop, operator: Visitor) -> None:
    known = shop.client.v1.customers.create({"name": "Acme"}).id
    page, action = "/operator/customers/acme", "/operator/customers/acme/stripe-id"

    refused = pressed(shop, operator, page, action, stripe_id="cus_NoSuchCustomer")
    shop.world.session.rollback()
    assert "Stripe does not do it" in refused
    assert shop.world.find("acme").stripe_customer_id is None

    assert f"acme is {known} at Stripe." in pressed(shop, operator, page, action, stripe_id=known)
    actor, _, detail = entries(shop)[0]
    assert shop.world.find("acme").stripe_customer_id == known
    assert (actor, known in str(detail)) == (ACTOR, True)


def test_who_pays_for_a_plan_is_not_put_on_another_one(app: Flask, shop: Shop, operator: Visitor) -> None:
    shop.buy("pro")
    shop.deliver()
    page, before = "/operator/customers/acme", entries(shop)

    refused = pressed(shop, operator, page, f"{page}/plan", plan="enterprise", when="now")

    assert f"{shop.subscription().id} runs at Stripe" in refused
    assert (shop.plan(), entries(shop)) == ("pro", before)

    by_command = app.test_cli_runner().invoke(args=["metering", "customers", "plan", "acme", "enterprise"])
    assert (by_command.exit_code, "runs at Stripe" in by_command.output) == (1, True)
    assert shop.plan() == "pro"
    bill = shop.owner.open("/c/acme/bill").text
    assert "Billed in advance" in bill
    assert "Usage is billed when the period ends" in bill

    ops = managers.operator(app, shop.world)
    asked = {plan: ops.call("PUT", "/api/v1/customers/acme/plan", json={"plan": plan}) for plan in ("free", "pro")}
    assert [one.status_code for one in asked.values()] == [409, 200]
    assert ("runs at Stripe" in asked["free"].text, shop.plan()) == (True, "pro")

    shop.client.v1.subscriptions.cancel(shop.subscription().id)
    shop.deliver()
    assert "acme is on enterprise now." in pressed(shop, operator, page, f"{page}/plan", plan="enterprise", when="now")
    assert shop.plan() == "enterprise"


def test_a_row_is_written_off_with_a_note(shop: Shop, operator: Visitor) -> None:
    row = parked_row(shop.world, shop.world.find("acme"))
    shop.world.session.add(row)
    shop.world.session.commit()
    page = f"/operator/stripe/rows/{row.id}"

    assert "written off" in pressed(shop, operator, page, f"{page}/write-off", note="a gift")

    actor, action, detail = entries(shop)[0]
    assert (actor, action, detail["note"]) == (ACTOR, "stripe.write_off", "a gift")
    assert shop.world.session.scalars(select(StripeReport.state)).one() == "written_off"


def test_a_row_of_a_level_says_what_was_kept(shop: Shop, operator: Visitor) -> None:
    """Stripe counts storage in units of its own: as many as keeping 3 GiB for an hour come to."""
    session = shop.world.session
    meter = session.scalars(select(StripeMeter).join(MeterRow).where(MeterRow.key == "storage_bytes")).one()
    byte_seconds = 3 * 2**30 * 3600
    row = parked_row(shop.world, shop.world.find("acme"), key="storage_bytes", value=round(byte_seconds / meter.unit))
    session.add(row)
    session.commit()

    page = operator.open(f"/operator/stripe/rows/{row.id}").text

    assert meter.unit > 1
    assert "<dd>3\u00a0GB for an hour</dd>" in page
    assert f"<dd>{row.value:,}</dd>" in page


def test_reporting_goes_on_with_a_key_that_was_refused(shop: Shop, operator: Visitor, metering: Metering) -> None:
    settings, session = metering.runtime.settings, shop.world.session
    stops.note_stop(session, settings, "Invalid API Key", shop.world.now)
    session.commit()
    assert "Invalid API Key" in operator.open("/operator/stripe").text

    assert "Reporting goes on." in pressed(shop, operator, "/operator/stripe", "/operator/stripe/resume")

    assert entries(shop)[0] == (ACTOR, "stripe.resume", {"reason": "Invalid API Key"})
    assert stops.stop_of(session, settings) is None


def test_a_customer_is_compared_when_somebody_asks(
    shop: Shop, operator: Visitor, metering: Metering, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.buy("pro")
    shop.deliver()
    page = "/operator/stripe/reconciliations"

    assert "under way" in pressed(shop, operator, page, page, customer="acme")
    shop.world.session.rollback()
    run = shop.world.session.scalars(select(Reconciliation)).one()
    assert run.finished_at is None

    monkeypatch.setattr(jobs, "runtime", lambda: metering.runtime)
    jobs.compare_customer(run.id)

    shop.world.session.rollback()
    assert run.finished_at is not None
    assert entries(shop)[0][:2] == (ACTOR, "stripe.reconcile")
    assert "acme" in operator.open(f"{page}/{run.id}").text
