"""The operators' console over real servers: who may come in; each decision does what it says, and is audited."""

from typing import Any

import pytest
from flask import Flask
from rq import Queue
from sqlalchemy import select

from metering import verification
from metering.keeper import Keeper
from metering.models import AuditEntry, HeldEvent, SetAside, StripeEvent, StripeReport, Verification
from metering.queues import CHECKS, QUEUE
from metering.service import Metering
from tests.factories.console import parked_row, set_aside, sow_console
from tests.factories.people import Visitor, make_user
from tests.factories.world import World

PAGES = ("", "/queues", "/set-aside", "/held", "/stripe", "/stripe/events", "/stripe/reconciliations", "/customers")
PAGES += ("/invariants", "/audit")
EMAIL = "op@metering.example"


@pytest.fixture
def ids(world: World) -> dict[str, Any]:
    customer = world.customer("acme", "pro")
    make_user(world, "owner@acme.example", customer)
    return sow_console(world)


@pytest.fixture
def operator(app: Flask, world: World, ids: dict[str, Any]) -> Visitor:
    make_user(world, EMAIL, operator=True)
    visitor = Visitor.of(app)
    assert visitor.log_in(EMAIL).status_code == 303
    return visitor


def fresh(world: World, model: Any, id: int) -> Any:
    world.session.rollback()
    return world.session.get(model, id, populate_existing=True)


def audited(world: World) -> list[tuple[str, str]]:
    world.session.rollback()
    return [(one.actor, one.action) for one in world.session.scalars(select(AuditEntry).order_by(AuditEntry.id))]


@pytest.mark.parametrize("page", PAGES)
def test_a_user_who_is_no_operator_finds_nothing(app, ids, page):
    visitor = Visitor.of(app)
    visitor.log_in("owner@acme.example")
    assert visitor.open(f"/operator{page}").status_code == 404


@pytest.mark.parametrize("page", PAGES)
def test_nobody_is_asked_to_log_in(client, page):
    assert client.get(f"/operator{page}").location == f"/login?next=/operator{page}"


def test_the_first_page_names_what_waits_and_leads_there(operator):
    page = operator.open("/operator").text
    for title, link in (("1 message set aside", "/operator/set-aside"), ("1 job failed", "/operator/queues")):
        assert title in page
        assert f'href="{link}"' in page


def test_flow_is_counted_by_minute_without_a_round_trip_a_call(operator, world, metering: Metering):
    metering.record("acme", "messages", 2)
    metering.record("acme", "messages", 2)
    Keeper(metering.runtime).drain_all()
    metering.runtime.tally.flush()
    world.advance(minutes=1)
    page = operator.partial("/operator/live/flow").text
    assert "Events in in each of the last 60 minutes: 2 at most" in page
    assert "Drained in each of the last 60 minutes: 3 at most" in page, "and the seat that the owner takes"


def test_an_unchanged_part_answers_204(operator):
    page = operator.partial("/operator/live/queues").text
    fingerprint = page.split("fingerprint=")[1][:16]
    assert operator.partial(f"/operator/live/queues?fingerprint={fingerprint}").status_code == 204


def test_a_parked_row_is_retried(operator, world, ids):
    path = f"/operator/stripe/rows/{ids['report_id']}"
    answer = operator.submit(path, f"{path}/retry")
    assert answer.status_code == 303
    assert fresh(world, StripeReport, ids["report_id"]).state == "withdrawn"
    assert audited(world) == [(f"user:{EMAIL}", "stripe.retry")]


def test_writing_off_and_settling_need_a_note(operator, world, ids):
    path = f"/operator/stripe/rows/{ids['report_id']}"
    for action, form in (("write-off", {}), ("settle", {"counted": "yes"}), ("settle", {"note": "seen"})):
        operator.submit(path, f"{path}/{action}", **form)
        assert fresh(world, StripeReport, ids["report_id"]).state == "parked"
    assert audited(world) == []
    operator.submit(path, f"{path}/settle", counted="yes", note="seen at Stripe")
    assert fresh(world, StripeReport, ids["report_id"]).state == "accepted"
    assert audited(world) == [(f"user:{EMAIL}", "stripe.counted")]


def test_a_message_is_replaced_by_what_it_should_have_said(operator, world, ids, metering: Metering):
    path = f"/operator/set-aside/{ids['message_id']}"
    operator.submit(path, f"{path}/replace", customer="acme", meter="messages", quantity="7", reason="mistyped")
    assert fresh(world, SetAside, ids["message_id"]).resolution == "replaced"
    keeper = Keeper(metering.runtime)
    keeper.feed_inbox()
    keeper.drain_all()
    assert (world.used("messages"), world.total("messages")) == (7, 7)
    assert audited(world) == [(f"user:{EMAIL}", "set_aside.replace")]


def test_a_message_whose_identity_is_taken_counts_beside_what_took_it(operator, world, ids, metering: Metering):
    kept = set_aside(world, world.find("acme"), reason="conflict")
    world.session.add(kept)
    world.session.commit()
    taken = world.event("acme", "messages", 1, id=f"e{next(world.numbers) - 1}")
    world.record(taken)
    path = f"/operator/set-aside/{kept.id}"
    operator.submit(path, f"{path}/replace", customer="acme", meter="messages", quantity="5", reason="both happened")
    keeper = Keeper(metering.runtime)
    keeper.feed_inbox()
    keeper.drain_all()
    assert world.total("messages") == 6


@pytest.mark.parametrize(("customer", "quantity"), [("nobody", "1"), ("acme", "much"), ("acme", "")])
def test_a_message_is_not_replaced_by_what_cannot_be(operator, world, ids, customer, quantity):
    path = f"/operator/set-aside/{ids['message_id']}"
    operator.submit(path, f"{path}/replace", customer=customer, meter="messages", quantity=quantity, reason="x")
    assert fresh(world, SetAside, ids["message_id"]).resolved_at is None
    assert audited(world) == []


def test_messages_are_replayed_and_dismissed_with_a_reason(operator, world, ids):
    path = f"/operator/set-aside/{ids['message_id']}"
    operator.submit(path, f"{path}/dismiss")
    assert fresh(world, SetAside, ids["message_id"]).resolved_at is None
    operator.submit(path, f"{path}/replay")
    assert fresh(world, SetAside, ids["message_id"]).resolution == "replayed"
    assert world.total("messages") == 5
    assert audited(world) == [(f"user:{EMAIL}", "set_aside.replay")]


def test_a_held_event_is_dropped(operator, world, ids):
    operator.submit("/operator/held", f"/operator/held/{ids['held_id']}/drop", reason="a test of theirs")
    assert fresh(world, HeldEvent, ids["held_id"]) is None
    assert audited(world) == [(f"user:{EMAIL}", "held.drop")]


def test_failed_jobs_are_put_in_again_or_deleted(operator, world, ids):
    operator.submit("/operator/queues", f"/operator/queues/jobs/{ids['job_id']}/retry")
    queue = Queue(QUEUE, connection=world.redis)
    assert (queue.job_ids, len(queue.failed_job_registry)) == ([ids["job_id"]], 0)
    operator.submit("/operator/queues", f"/operator/queues/jobs/{ids['job_id']}/delete")
    assert queue.job_ids == []
    assert [action for _, action in audited(world)] == ["job.retry", "job.delete"]


def test_a_webhook_event_is_followed_again_by_a_job(operator, world, ids):
    operator.submit("/operator/stripe/events", f"/operator/stripe/events/{ids['stripe_event']}/retry")
    world.session.rollback()
    event = world.session.scalars(select(StripeEvent)).one()
    assert (event.state, event.attempts) == ("waiting", 0)
    assert [job.func_name for job in Queue(QUEUE, connection=world.redis).jobs] == [
        "metering.jobs.process_stripe_event"
    ]


def test_a_customer_is_suspended_and_put_on_another_plan(operator, world, ids):
    page = "/operator/customers/acme"
    told = "This account is suspended"
    assert told not in operator.open("/c/acme/usage").text
    assert operator.submit(page, f"{page}/status", status="suspended", note=" ").status_code == 303
    assert world.find("acme").status == "active"
    for _ in range(2):  # the second time it says that it is
        operator.submit(page, f"{page}/status", status="suspended", note="does not pay")
    operator.submit(page, f"{page}/plan", plan="free", when="now")
    assert told in operator.open("/c/acme/usage").text
    world.session.rollback()
    customer = world.find("acme")
    assert (customer.status, customer.plan) == ("suspended", "free")
    assert [action for _, action in audited(world)] == ["customer.change", "customer.plan"]
    shown = operator.open("/operator/audit?customer=acme").text
    assert "suspended the customer" in shown
    assert "does not pay" in shown


@pytest.mark.parametrize("text", ["acm", "Acm", "owner@ac", "cus_9"])
def test_customers_are_found_by_key_name_member_and_stripe_id(operator, world, ids, text):
    world.find("acme").stripe_customer_id = "cus_9"
    world.session.commit()
    world.customer("bravo", "pro")
    page = operator.open(f"/operator/customers?q={text}").text
    assert "/operator/customers/acme" in page
    assert "/operator/customers/bravo" not in page


def test_the_ledger_is_paged_by_place_and_filtered(operator, world, ids):
    customer = world.find("acme")
    for hours_ago in range(3, 63):
        world.session.add(parked_row(world, customer, hours_ago=hours_ago))
    world.session.commit()
    seen, path = 0, "/operator/stripe?customer=acme&state=parked"
    while path:
        page = operator.open(path).text
        seen += page.count('class="row-title"')
        path = page.split('rel="next" href="')[1].split('"')[0].replace("&amp;", "&") if 'rel="next"' in page else ""
    assert seen == 61
    assert 'class="row-title"' not in operator.open("/operator/stripe?customer=acme&state=accepted").text


def test_a_run_of_verify_is_asked_for_once_and_kept(operator, world, ids, metering: Metering):
    world.session.delete(fresh(world, Verification, ids["run_id"]))
    world.session.commit()
    operator.submit("/operator/invariants", "/operator/invariants")
    operator.submit("/operator/invariants", "/operator/invariants")
    world.session.rollback()
    run = world.session.scalars(select(Verification)).one()
    assert "0 of 11 checks made" in operator.open(f"/operator/invariants/{run.id}").text

    verification.carry_out(metering.runtime, run.id)

    queued = Queue(CHECKS, connection=world.redis).jobs
    assert [(job.func_name, job.args) for job in queued] == [("metering.jobs.run_verification", (run.id,))]
    made = fresh(world, Verification, run.id)
    assert (len(made.checks), made.asked_by) == (11, f"user:{EMAIL}")
    assert audited(world) == [(f"user:{EMAIL}", "verify.run")]


def test_an_operator_on_a_customers_page_is_told_so_and_a_member_is_not(app, operator):
    banner = "You look at this as an operator, read-only."
    assert banner in operator.open("/c/acme/").text
    member = Visitor.of(app)
    member.log_in("owner@acme.example")
    assert banner not in member.open("/c/acme/").text


@pytest.mark.parametrize(
    "back", ["https://evil.example/", "//evil.example", "/c/acme/", "/operator\\evil", "/operatorx"]
)
def test_a_form_leads_back_into_the_console_alone(operator, ids, back):
    answer = operator.submit("/operator/stripe", f"/operator/stripe/rows/{ids['report_id']}/retry", back=back)
    assert answer.location == "/operator/stripe?state=parked"


def test_metrics_tell_of_the_queue(client, world, ids):
    page = client.get("/metrics").text
    assert 'metering_queue_jobs{queue="metering",state="failed"} 1.0' in page
