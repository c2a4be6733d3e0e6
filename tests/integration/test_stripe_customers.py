"""Our customers at Stripe: found or made on demand, named in its metadata, linked once; and operators' commands."""

import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import select

from metering.errors import Conflict
from metering.models import AuditEntry, Customer
from metering.stripe_sync.customers import find_or_create, link
from metering.stripe_sync.gateway import StripeApi, connect
from tests.factories.standin import KEY, StandinProcess
from tests.factories.webhooks import Sender, snapshot
from tests.factories.world import World


@pytest.fixture
def api(standin: StandinProcess) -> StripeApi:
    return connect(KEY, standin=True, api_base=standin.url, timeout_seconds=5, network_retries=0)


@pytest.fixture
def app(stripe_app: Flask) -> Flask:
    return stripe_app


def run(app: Flask, *words: str, status: int = 0) -> Result:
    result = app.test_cli_runner().invoke(args=["metering", "stripe", *words])
    assert result.exit_code == status, result.output
    return result


def find(world: World, api: StripeApi, customer: Customer) -> str:
    found = find_or_create(world.session, api, customer, now=world.now, actor="test")
    world.session.commit()
    return found


def test_one_that_names_ours_is_taken_and_none_is_made(world: World, api: StripeApi) -> None:
    made = api.client.v1.customers.create({"name": "Acme", "metadata": {"metering_customer": "acme"}})
    api.client.v1.customers.create({"name": "Other", "metadata": {"metering_customer": "acme2"}})

    assert find(world, api, world.customer("acme")) == made.id

    assert len(api.client.v1.customers.list().data) == 2
    entry = world.session.scalars(select(AuditEntry)).one()
    assert (entry.action, entry.actor, entry.detail["how"]) == ("stripe.customer", "test", "matched")


def test_one_is_made_once_even_if_the_answer_was_lost(world: World, api: StripeApi) -> None:
    """Given one that was made while its id was never written down, when it is asked for again, then it is the same."""
    customer = world.customer("acme")
    lost = find_or_create(world.session, api, customer, now=world.now, actor="test")
    world.session.rollback()

    assert find(world, api, world.find("acme")) == lost
    assert len(api.client.v1.customers.list().data) == 1


def test_two_that_name_ours_are_a_fault(world: World, api: StripeApi) -> None:
    for _ in range(2):
        api.client.v1.customers.create({"metadata": {"metering_customer": "acme"}})

    with pytest.raises(Conflict, match="several customers"):
        find(world, api, world.customer("acme"))


def test_what_is_linked_is_not_asked_for(world: World, api: StripeApi, standin: StandinProcess) -> None:
    customer = world.customer("acme", stripe_customer_id="cus_known")
    standin.kill()

    assert find(world, api, customer) == "cus_known"


def test_an_id_belongs_to_one_customer(world: World) -> None:
    world.customer("acme", stripe_customer_id="cus_1")

    with pytest.raises(Conflict, match="acme"):
        link(world.session, world.customer("bravo"), "cus_1", now=world.now, actor="test", how="test")


def test_the_command_prints_the_id_and_is_audited(app: Flask, world: World, api: StripeApi) -> None:
    world.customer("acme")

    said = run(app, "customer", "acme").output.strip()

    assert api.client.v1.customers.retrieve(said).metadata["metering_customer"] == "acme"  # type: ignore[index]
    assert run(app, "customer", "acme").output.strip() == said
    assert world.session.scalars(select(AuditEntry.actor)).one().startswith("cli:")
    assert "no customer" in run(app, "customer", "nobody", status=1).output


def test_events_are_listed_retried_and_counted(app: Flask, world: World) -> None:
    stripe = Sender(app, world)
    stripe.send(snapshot("customer.subscription.updated", "sub_nowhere", id="evt_bad"))
    stripe.send(snapshot("customer.created", "cus_1", id="evt_other"))
    stripe.process()

    shown = run(app, "events").output
    assert "evt_bad" in shown
    assert "sub_nowhere" in shown
    assert "evt_other" not in shown
    assert "evt_other" in run(app, "events", "--all").output
    assert '"state": "waiting"' in run(app, "events", "--json").output
    status = app.test_cli_runner().invoke(args=["metering", "status", "--json"]).output
    assert '"stripe_events_retried": 1' in status
    assert "waiting" in run(app, "retry-event", "evt_bad", status=1).output
    assert "processed" in run(app, "retry-event", "evt_other").output or stripe.states()[1] == "ignored"
    assert "there is no event" in run(app, "retry-event", "evt_none", status=1).output
    assert "No such subscription" in run(app, "sync", "sub_nowhere", status=1).output
