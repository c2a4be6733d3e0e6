"""Webhooks out: what an alert sets off arrives, signed, at least once, and gives up where it should."""

import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select, text
from standardwebhooks import Webhook

from metering import failpoints
from metering.embedded import Addresses
from metering.models import AuditEntry, Mail, Membership, WebhookDelivery, WebhookEndpoint, WebhookTry
from metering.notify import deliveries, endpoints
from metering.notify.deliveries import WAITS
from metering.runtime import Runtime, build_runtime
from metering.service import Metering
from metering.settings import load_settings
from tests.conftest import running_app
from tests.factories.callers import keep
from tests.factories.forks import FORKS
from tests.factories.hooks import Hook, HookReceiver
from tests.factories.people import Visitor, make_user
from tests.factories.world import World
from tests.faults.harness import wait_until

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "webhooks-out.md"


@pytest.fixture
def loopback_app(world: World, servers: Addresses, tmp_path: Path) -> Iterator[Flask]:
    """The product where webhooks may go to this machine."""
    addresses = {"database_url": servers.database_url, "redis_url": servers.redis_url}
    with running_app(world, tmp_path, **addresses, webhooks_to_loopback=True) as app:
        yield app


@pytest.fixture
def runtime(loopback_app: Flask) -> Runtime:
    metering: Metering = loopback_app.extensions["metering"]
    return metering.runtime


@pytest.fixture
def receiver() -> Iterator[HookReceiver]:
    receiver = HookReceiver()
    yield receiver
    receiver.close()


@pytest.fixture
def endpoint(world: World, receiver: HookReceiver) -> WebhookEndpoint:
    customer = world.customer("acme")
    made = endpoints.create_endpoint(
        world.session, customer, url=receiver.url, events=endpoints.EVENTS, now=world.now, loopback=True
    )
    world.session.commit()
    return made


def verified(hook: Hook, secret: str) -> bool:
    """By what the library makes of it; its own check would look at today's time, and the world's is another."""
    at = datetime.fromtimestamp(int(hook.headers["webhook-timestamp"]), UTC)
    signed = Webhook(secret).sign(hook.headers["webhook-id"], at, hook.body.decode())
    return signed in hook.headers["webhook-signature"].split(" ")


def stored(world: World) -> WebhookDelivery:
    world.session.expire_all()
    return world.session.scalars(select(WebhookDelivery)).one()


def pinged(world: World, endpoint: WebhookEndpoint) -> WebhookDelivery:
    made = deliveries.ping(world.session, endpoint, now=world.now)
    world.session.commit()
    return made


def test_an_alert_is_told_by_webhook_and_mail_in_the_drains_own_transaction(
    world: World, loopback_app: Flask, runtime: Runtime, endpoint: WebhookEndpoint, receiver: HookReceiver
) -> None:
    make_user(world, "owner@acme.example", world.find("acme"))
    for name, role, wants in (("viewer", "viewer", True), ("quiet", "admin", False)):
        user = make_user(world, f"{name}@acme.example")
        acme = world.find("acme")
        world.session.add(Membership(user_id=user.id, customer_id=acme.id, role=role, alert_mails=wants))
    world.session.commit()

    world.record(world.event(quantity=1000))
    keep(loopback_app.extensions["metering"])
    world.record(world.event(quantity=1))
    keep(loopback_app.extensions["metering"])
    assert deliveries.send_waiting(runtime) == 3
    assert deliveries.send_waiting(runtime) == 0

    events = [hook.event for hook in sorted(receiver.hooks, key=lambda hook: hook.body)]
    assert sorted((event["type"], event["data"]["percent"]) for event in events) == [
        ("alert.crossed", 80),
        ("alert.crossed", 100),
        ("limit.reached", 100),
    ]
    assert (events[0]["data"]["customer"], events[0]["data"]["used"], events[0]["data"]["limit"]) == (
        "acme",
        "1000",
        "1000",
    )
    assert all(verified(hook, endpoint.secret) for hook in receiver.hooks)
    mails = world.session.scalars(select(Mail)).all()
    assert [(mail.recipient, mail.subject) for mail in mails if mail.customer_id] == [
        ("owner@acme.example", "Acme, API calls: limit reached")
    ]


def test_what_fails_is_tried_again_for_a_day_under_the_same_id(
    world: World, runtime: Runtime, endpoint: WebhookEndpoint, receiver: HookReceiver
) -> None:
    receiver.answer = lambda _: (503, b"not now")
    pinged(world, endpoint)
    start = world.now
    for wait in WAITS:
        assert deliveries.send_waiting(runtime) == 0
        assert deliveries.send_waiting(runtime) == 0  # it waits
        assert stored(world).next_try_at == world.now + wait
        world.now += wait
    deliveries.send_waiting(runtime)

    assert stored(world).next_try_at is None
    assert world.now - start > timedelta(days=1)
    assert len({(hook.headers["webhook-id"], hook.body) for hook in receiver.hooks}) == 1
    assert len(receiver.hooks) == len(WAITS) + 1
    tries = world.session.scalars(select(WebhookTry)).all()
    assert [(one.status, one.response) for one in tries] == [(503, "not now")] * len(receiver.hooks)

    receiver.answer = lambda _: (200, b"")
    deliveries.replay(stored(world), now=world.now)
    world.session.commit()
    assert deliveries.send_waiting(runtime) == 1
    assert (stored(world).delivered_at, len(receiver.hooks)) == (world.now, len(WAITS) + 2)
    assert receiver.hooks[-1].headers["webhook-id"] == receiver.hooks[0].headers["webhook-id"]


def test_gone_switches_off_at_once_and_what_waits_stays_in_the_log(
    world: World, runtime: Runtime, endpoint: WebhookEndpoint, receiver: HookReceiver
) -> None:
    make_user(world, "owner@acme.example", world.find("acme"))
    receiver.answer = lambda _: (410, b"")
    pinged(world, endpoint)
    deliveries.send_waiting(runtime)

    world.session.expire_all()
    assert (endpoint.enabled, endpoint.off_reason) == (False, "It answered 410 Gone.")
    assert stored(world).next_try_at is None
    assert world.session.scalars(select(Mail.recipient)).all() == ["owner@acme.example"]


def test_a_week_of_failure_switches_off_with_one_message_and_a_success_begins_anew(
    world: World, runtime: Runtime, endpoint: WebhookEndpoint, receiver: HookReceiver
) -> None:
    make_user(world, "owner@acme.example", world.find("acme"))

    def try_(status: int, days: float) -> bool:
        receiver.answer = lambda _: (status, b"")
        world.advance(days=days)
        pinged(world, endpoint)
        deliveries.send_waiting(runtime)
        world.session.refresh(endpoint)
        return endpoint.enabled

    assert [try_(*one) for one in ((500, 0), (500, 6.9), (200, 1), (500, 1), (500, 6.9))] == [True] * 5
    assert not try_(500, 0.2)
    assert not try_(500, 3)
    assert endpoint.off_reason == "It has taken nothing for a week."
    assert len(world.session.scalars(select(Mail)).all()) == 1


def test_a_secret_that_was_replaced_signs_for_another_day(
    world: World, runtime: Runtime, endpoint: WebhookEndpoint, receiver: HookReceiver
) -> None:
    old = endpoint.secret
    new = endpoints.rotate(endpoint, now=world.now)
    pinged(world, endpoint)
    deliveries.send_waiting(runtime)
    world.advance(hours=24)
    pinged(world, endpoint)
    deliveries.send_waiting(runtime)

    first, second = receiver.hooks
    assert (verified(first, old), verified(first, new)) == (True, True)
    assert (verified(second, old), verified(second, new)) == (False, True)


def sent_by_one_that_dies(settings: dict[str, Any], now: datetime, place: str) -> None:
    failpoints.arm(f"{place}:1")
    deliveries.send_waiting(build_runtime(load_settings(**settings), clock=lambda: now))


@pytest.mark.parametrize("place", ["webhooks.claimed", "webhooks.sent"])
def test_a_killed_sender_repeats_and_loses_nothing(
    world: World, runtime: Runtime, endpoint: WebhookEndpoint, receiver: HookReceiver, place: str
) -> None:
    pinged(world, endpoint)
    sender = FORKS.Process(target=sent_by_one_that_dies, args=(runtime.settings.model_dump(), world.now, place))
    sender.start()
    sender.join()
    assert sender.exitcode == -signal.SIGKILL
    assert stored(world).delivered_at is None

    assert deliveries.send_waiting(runtime) == 0  # claimed by one who may still be at it
    world.now += deliveries.CLAIM
    assert deliveries.send_waiting(runtime) == 1
    assert len(receiver.hooks) == (2 if place == "webhooks.sent" else 1)
    assert len({hook.headers["webhook-id"] for hook in receiver.hooks}) == 1


def test_no_transaction_is_open_while_an_endpoint_is_waited_for(
    world: World, runtime: Runtime, endpoint: WebhookEndpoint, receiver: HookReceiver
) -> None:
    def look(_: int) -> tuple[int, bytes]:
        held = select(WebhookDelivery.id).with_for_update(nowait=True)
        with runtime.transaction() as session:
            return (200 if session.scalars(held).all() else 500), b""

    receiver.answer = look
    pinged(world, endpoint)
    assert deliveries.send_waiting(runtime) == 1


def test_without_leave_nothing_of_this_machine_is_called(
    world: World, app: Flask, endpoint: WebhookEndpoint, receiver: HookReceiver
) -> None:
    pinged(world, endpoint)

    assert deliveries.send_waiting(app.extensions["metering"].runtime) == 0
    assert receiver.hooks == []
    assert "https" in (world.session.scalars(select(WebhookTry.fault)).one() or "")


def test_the_guides_receiver_takes_what_is_ours_once_and_nothing_else(
    world: World, loopback_app: Flask, receiver: HookReceiver, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {}
    (example,) = re.findall(r"<!-- executed by [^>]*-->\n```python\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    exec(example, names)
    world.now = datetime.now(UTC)  # the library looks at the age of a message
    made = endpoints.create_endpoint(
        world.session, world.customer("acme"), url=receiver.url, events=["invoice.paid"], now=world.now, loopback=True
    )
    pinged(world, made)
    deliveries.send_waiting(loopback_app.extensions["metering"].runtime)
    (hook,) = receiver.hooks

    assert [names["receive"](hook.body, hook.headers, made.secret) for _ in range(2)] == [204, 204]
    assert capsys.readouterr().out.count("ping") == 1
    assert names["receive"](hook.body + b" ", hook.headers, made.secret) == 400
    assert names["receive"](hook.body, hook.headers, endpoints.new_secret()) == 400


# -- pages -------------------------------------------------------------------------------------------------------------


def test_an_endpoint_is_managed_on_its_pages(
    world: World, loopback_app: Flask, runtime: Runtime, receiver: HookReceiver
) -> None:
    make_user(world, "owner@acme.example", world.customer("acme", "pro"))
    owner, page = Visitor.of(loopback_app), "/c/acme/webhooks"
    owner.log_in("owner@acme.example")
    refused = owner.submit(page, page, url="http://10.0.0.1/", events="alert.crossed")
    assert (refused.status_code, "is no public address" in refused.text) == (422, True)
    assert owner.submit(page, page, url=receiver.url).status_code == 422
    made = owner.submit(page, page, url=receiver.url, events="alert.crossed")
    secret = re.search(r"whsec_[\w+/=]+", made.text)
    endpoint = world.session.scalars(select(WebhookEndpoint)).one()
    one = f"{page}/{endpoint.id}"
    assert secret is not None
    assert "whsec_" not in owner.open(one).text

    assert owner.submit(one, f"{one}/ping").status_code == 303
    deliveries.send_waiting(runtime)
    assert verified(receiver.hooks[0], secret[0])
    assert "Delivered" in owner.open(one).text
    assert owner.submit(one, f"{one}/deliveries/{stored(world).id}/replay").status_code == 303
    assert deliveries.send_waiting(runtime) == 1
    assert "Status 204" in owner.open(one).text
    assert owner.submit(one, f"{one}/state", on="no").status_code == 303
    owner.submit(one, f"{one}/ping")
    assert deliveries.send_waiting(runtime) == 0
    rotated = owner.submit(one, f"{one}/rotate").text
    assert re.search(r"whsec_[\w+/=]+", rotated)[0] != secret[0]  # type: ignore[index]
    assert owner.submit(one, f"{one}/remove").status_code == 303
    assert owner.open(one).status_code == 404
    noted = world.session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)).all()
    assert [action.split(".")[1] for action in noted] == ["create", "ping", "replay", "switch", "rotate", "remove"]


@pytest.mark.parametrize("role", ["member", "viewer"])
def test_others_look_and_change_nothing(world: World, app: Flask, endpoint: WebhookEndpoint, role: str) -> None:
    user = make_user(world, "eve@acme.example")
    world.session.add(Membership(user_id=user.id, customer_id=endpoint.customer_id, role=role))
    world.session.commit()
    eve, one = Visitor.of(app), f"/c/acme/webhooks/{endpoint.id}"
    eve.log_in("eve@acme.example")

    for action in ("alerts/thresholds", "alerts/mails", "webhooks", f"webhooks/{endpoint.id}/rotate"):
        assert eve.submit("/c/acme/alerts", f"/c/acme/{action}", percents="1").status_code == 403
    shown = [eve.open(path).text for path in ("/c/acme/alerts", "/c/acme/webhooks", one)]
    assert all('<form method="post" action="/c/acme' not in text for text in shown)


def test_ones_own_mails_are_chosen_on_the_page(world: World, app: Flask) -> None:
    make_user(world, "owner@acme.example", world.customer("acme", "pro"))
    owner, page = Visitor.of(app), "/c/acme/alerts"
    owner.log_in("owner@acme.example")

    assert owner.submit(page, f"{page}/mails", wanted="no").status_code == 303
    assert world.session.scalars(select(Membership.alert_mails)).one() is False


def test_what_an_earlier_address_answers_says_nothing_of_the_new_one(
    world: World, runtime: Runtime, endpoint: WebhookEndpoint, receiver: HookReceiver
) -> None:
    pinged(world, endpoint)

    def changed_meanwhile(_: object) -> tuple[int, bytes]:
        endpoints.change_endpoint(endpoint, url="https://hooks.example.com/new", events=endpoints.EVENTS)
        world.session.commit()
        return 410, b""

    receiver.answer = changed_meanwhile
    deliveries.send_waiting(runtime)

    world.session.expire_all()
    assert (endpoint.enabled, endpoint.failing_since) == (True, None)


def test_an_endpoint_is_removed_while_something_is_sent_there(
    world: World, runtime: Runtime, endpoint: WebhookEndpoint, receiver: HookReceiver
) -> None:
    pinged(world, endpoint)
    receiver.answer = lambda _: (500, b"")
    with ThreadPoolExecutor(1) as sender, runtime.transaction() as session:
        found = endpoints.find_endpoint(session, endpoint.customer_id, endpoint.id, lock=True)
        sent = sender.submit(deliveries.send_waiting, runtime)
        wait_until(lambda: waiting_for_a_lock(world), lambda: "the sender never came to write the outcome down")
        session.delete(found)
        session.flush()

    assert sent.result() == 0
    world.session.expire_all()
    assert world.session.scalars(select(WebhookDelivery)).all() == []


def waiting_for_a_lock(world: World) -> bool:
    waiting = world.session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted"))
    return bool(waiting)
