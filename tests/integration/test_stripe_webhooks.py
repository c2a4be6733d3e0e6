"""What Stripe sends is checked, stored once, answered at once, and followed until it is done."""

from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from redis import Redis
from rq import Queue
from sqlalchemy import Engine, select

from metering import jobs
from metering.embedded import Addresses
from metering.errors import Conflict, NotFound
from metering.models import AuditEntry
from metering.stripe_sync import inbound
from metering.stripe_sync.gateway import STANDIN
from metering.stripe_sync.processing import process
from tests.conftest import running_app
from tests.factories.ledger import Books
from tests.factories.standin import StandinProcess
from tests.factories.webhooks import SECRET, Sender, snapshot, thin
from tests.factories.world import World

ERRORS = "v1.billing.meter.error_report_triggered"


@pytest.fixture
def app(stripe_app: Flask) -> Flask:
    return stripe_app


@pytest.fixture
def stripe(app: Flask, world: World) -> Sender:
    return Sender(app, world)


def queued(redis: Redis) -> list[int]:
    jobs_there = Queue(jobs.QUEUE, connection=redis).jobs
    assert {job.func for job in jobs_there} <= {jobs.process_stripe_event}
    return [job.args[0] for job in jobs_there]


class TestReceiving:
    def test_an_event_is_stored_enqueued_and_answered(self, stripe: Sender, redis: Redis) -> None:
        answer = stripe.send(snapshot("customer.subscription.created", "sub_1", id="evt_a"))

        assert (answer.status_code, answer.data) == (204, b"")
        (event,) = stripe.events()
        assert (event.event_id, event.type, event.object_id) == ("evt_a", "customer.subscription.created", "sub_1")
        assert (event.mode, event.livemode, event.thin, event.state) == ("standin", False, False, "waiting")
        assert queued(redis) == [event.id]
        assert "Set-Cookie" not in answer.headers

    def test_the_same_event_again_is_answered_and_stored_once(self, stripe: Sender, redis: Redis) -> None:
        event = snapshot("invoice.paid", "in_1")

        assert [stripe.send(event).status_code for _ in range(3)] == [204, 204, 204]

        assert len(stripe.events()) == 1
        assert len(queued(redis)) == 1

    def test_a_thin_event_has_a_door_and_a_secret_of_its_own(self, stripe: Sender) -> None:
        event = thin(ERRORS, related_object={"id": "mtr_1", "type": "billing.meter", "url": "/v1/billing/meters/mtr_1"})

        assert stripe.send(event, secret=SECRET).status_code == 400
        assert stripe.send(event).status_code == 204

        (stored,) = stripe.events()
        assert (stored.thin, stored.type, stored.object_id) == (True, ERRORS, "mtr_1")

    @pytest.mark.parametrize(("age", "status"), [(0, 204), (290, 204), (310, 400), (3 * 24 * 3600, 400)])
    def test_a_signature_may_be_five_minutes_old(self, stripe: Sender, age: float, status: int) -> None:
        answer = stripe.send(snapshot("invoice.paid", "in_1"), age=age)

        assert answer.status_code == status
        assert len(stripe.events()) == (1 if status == 204 else 0)

    def test_what_is_signed_with_another_secret_or_not_at_all_is_refused(self, stripe: Sender) -> None:
        event = snapshot("invoice.paid", "in_1")

        for answer in (
            stripe.send(event, secret="whsec_of_somebody_else"),
            stripe.app.test_client().post("/webhooks/stripe", json=event),
            stripe.app.test_client().post("/webhooks/stripe", json=event, headers={"Stripe-Signature": "t=x,v1=y"}),
            stripe.app.test_client().post("/webhooks/stripe", json=event, headers={"Stripe-Signature": "v1=y"}),
        ):
            assert answer.status_code == 400
            assert answer.json["type"] == "/problems/bad-webhook"
        assert stripe.events() == []

    @pytest.mark.parametrize(
        "body",
        [b"", b"{", b"\xff\xfe", b"[]", b"null", b'"event"', b'{"object": "event"}', b'{"object": "v2.core.event"}'],
    )
    def test_a_body_that_is_no_event_is_refused(self, stripe: Sender, body: bytes) -> None:
        for is_thin in (False, True):
            answer = stripe.send_body(body, thin=is_thin)
            assert (answer.status_code, answer.content_type) == (400, "application/problem+json")

    @pytest.mark.parametrize(
        "wrong", [{"id": 7}, {"id": "e" * 300}, {"id": "a\x00b"}, {"created": 10**30}, {"data": {}}, {"type": None}]
    )
    def test_an_event_of_another_shape_is_refused(self, stripe: Sender, wrong: dict[str, object]) -> None:
        assert stripe.send(snapshot("invoice.paid", "in_1", **wrong)).status_code == 400

    def test_a_body_beyond_all_measure_is_refused(self, stripe: Sender) -> None:
        assert stripe.send_body(b" " * (1024 * 1024 + 1)).status_code == 413

    def test_a_live_event_is_kept_and_never_acted_on_in_test_mode(self, stripe: Sender, redis: Redis) -> None:
        assert stripe.send(snapshot("customer.subscription.created", "sub_1", livemode=True)).status_code == 204

        (event,) = stripe.events()
        assert (event.state, event.reason) == ("ignored", "a live event, and this installation is in standin mode")
        assert queued(redis) == []
        assert stripe.process() == 0
        with pytest.raises(Conflict):
            inbound.retry(stripe.world.session, event.event_id, now=stripe.world.now, actor="test")

    def test_an_event_of_a_connected_account_is_kept_and_not_acted_on(self, stripe: Sender) -> None:
        stripe.send(snapshot("invoice.paid", "in_1", account="acct_other"))

        assert stripe.states() == ["ignored"]

    def test_without_a_secret_there_is_no_door(self, world: World, servers: Addresses, tmp_path: Path) -> None:
        with running_app(
            world, tmp_path, database_url=servers.database_url, redis_url=servers.redis_url, stripe="off"
        ) as app:
            answer = Sender(app, world).send(snapshot("invoice.paid", "in_1"))

        assert answer.status_code == 404


class TestFollowing:
    def test_an_event_that_was_never_enqueued_is_found(self, stripe: Sender, redis: Redis) -> None:
        stripe.send(snapshot("customer.created", "cus_1"))
        redis.delete("rq:queue:metering")

        assert stripe.process() == 1

        (event,) = stripe.events()
        assert (event.state, event.reason) == ("ignored", "nothing follows from it")

    def test_a_failure_is_kept_with_its_reason_and_tried_again_later(self, stripe: Sender) -> None:
        stripe.send(snapshot("customer.subscription.updated", "sub_nowhere"))

        assert stripe.process() == 0
        (event,) = stripe.events()
        assert (event.state, event.attempts) == ("waiting", 1)
        assert "sub_nowhere" in event.reason or "Unrecognized" in event.reason
        assert event.next_try_at > stripe.world.now

        assert stripe.process() == 0
        assert stripe.events()[0].attempts == 1, "it is not its turn"
        stripe.world.advance(seconds=20)
        stripe.process()
        assert stripe.events()[0].attempts == 2

    def test_a_failure_holds_up_no_other(self, stripe: Sender) -> None:
        stripe.send(snapshot("customer.subscription.updated", "sub_nowhere"))
        stripe.send(snapshot("customer.created", "cus_1"))

        assert stripe.process() == 1
        assert stripe.states() == ["waiting", "ignored"]

    def test_what_fails_for_long_is_given_up_until_an_operator_retries_it(self, stripe: Sender) -> None:
        world = stripe.world
        stripe.send(snapshot("customer.subscription.updated", "sub_nowhere", id="evt_bad"))
        for _ in range(inbound.MAX_ATTEMPTS):
            stripe.process()
            world.advance(hours=1)
        assert stripe.states() == ["failed"]
        assert stripe.process() == 0

        inbound.retry(world.session, "evt_bad", now=world.now, actor="ann")
        world.session.commit()

        assert stripe.states() == ["waiting"]
        stripe.process()
        assert stripe.events()[0].attempts == 1
        audited = world.session.scalars(select(AuditEntry)).one()
        assert (audited.actor, audited.action, audited.detail["event"]) == ("ann", "stripe.event.retry", "evt_bad")
        with pytest.raises(NotFound):
            inbound.retry(world.session, "evt_none", now=world.now, actor="ann")

    def test_an_event_that_somebody_works_on_is_left_to_them_until_they_are_lost(self, stripe: Sender) -> None:
        world = stripe.world
        stripe.send(snapshot("customer.created", "cus_1"))
        (event,) = stripe.events()
        assert inbound.claim(world.session, event.id, world.now) is not None
        world.session.commit()  # and this worker dies

        assert not process(stripe.runtime, event.id)
        world.advance(seconds=inbound.LEASE.total_seconds() + 1)
        assert process(stripe.runtime, event.id)

    def test_settled_events_are_forgotten_in_the_end(self, stripe: Sender) -> None:
        stripe.send(snapshot("customer.created", "cus_1"))
        stripe.send(snapshot("customer.subscription.updated", "sub_nowhere"))
        stripe.process()
        stripe.world.advance(days=91)

        stripe.process()

        assert stripe.states() == ["waiting"], "what is not done yet is kept, however old"


class TestMeterErrors:
    def test_rows_that_a_report_names_are_parked_with_its_reason(
        self, stripe: Sender, standin: StandinProcess, engine: Engine
    ) -> None:
        """Given rows that Stripe took and found wrong afterwards, when its report comes, then they are parked, and the
        others are not."""
        books = Books(stripe.world, standin, engine).open()
        standin.set("async_validation", enabled=True)
        books.customer("acme")
        unknown = books.customer("ghost")
        unknown.stripe_customer_id = "cus_unknown"
        stripe.world.session.commit()
        for customer in ("acme", "ghost"):
            books.use(5, customer)
        assert books.report_hours().accepted == 2
        standin.set("error_reports")
        (reported,) = books.gateway().client.v2.core.events.list().data

        stripe.send(thin(reported.type, id=reported.id))
        assert stripe.process() == 1

        by_customer = {row.customer_id: row for row in books.rows()}
        parked = by_customer.pop(unknown.id)
        assert parked.state == "parked"
        assert parked.fault.startswith("refused after it was taken in: meter_event_customer_not_found")
        assert [row.state for row in by_customer.values()] == ["accepted"]
        (event,) = stripe.events()
        assert event.reason == "1 meter events were refused (meter_event_customer_not_found × 1); 1 rows parked"
        books.check()

    def test_a_report_that_comes_twice_leaves_alone_what_was_decided_since(
        self, stripe: Sender, standin: StandinProcess, engine: Engine
    ) -> None:
        books = Books(stripe.world, standin, engine).open()
        standin.set("async_validation", enabled=True)
        ghost = books.customer("ghost")
        ghost.stripe_customer_id = "cus_unknown"
        stripe.world.session.commit()
        books.use(5, "ghost")
        books.report_hours()
        standin.set("error_reports")
        (reported,) = books.gateway().client.v2.core.events.list().data
        stripe.send(thin(reported.type, id=reported.id))
        stripe.process()
        (row,) = books.rows()
        row.state = "written_off"
        stripe.world.session.commit()

        inbound.retry(stripe.world.session, reported.id, now=stripe.world.now, actor="test")
        stripe.world.session.commit()
        stripe.process()

        assert [row.state for row in books.rows()] == ["written_off"]
        assert {row.account for row in books.rows()} == {STANDIN}


def test_a_claim_lasts_longer_than_a_job() -> None:
    assert timedelta(seconds=jobs.MAX_JOB_SECONDS) < inbound.LEASE
