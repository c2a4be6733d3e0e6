"""E-mail against a real SMTP server: what arrives, what is tried again, and what can't be smuggled in."""

import signal
from collections.abc import Iterator
from datetime import datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from sqlalchemy import select

from metering import failpoints
from metering.embedded import Addresses
from metering.models import Mail
from metering.notify import mail
from metering.runtime import Runtime, build_runtime
from metering.settings import load_settings
from tests.conftest import running_app
from tests.factories.forks import FORKS
from tests.factories.world import World


class Mailbox:
    """Takes what is sent, or answers as told."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.answer = "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.answer.startswith("250"):
            assert isinstance(envelope.content, bytes)
            self.messages.append(message_from_bytes(envelope.content, policy=policy.default))  # type: ignore[arg-type]
        return self.answer


class OnAnyPort(Controller):
    """The library asks itself at the port it was given: at the one it got, where that was 0."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
def server(mailbox: Mailbox) -> Iterator[Controller]:
    controller = OnAnyPort(mailbox, hostname="127.0.0.1", port=0)
    controller.start()
    yield controller
    if controller.server is not None:
        controller.stop()


def settings_for(servers: Addresses, controller: Controller) -> dict[str, Any]:
    return {
        "database_url": servers.database_url,
        "redis_url": servers.redis_url,
        "smtp_host": "127.0.0.1",
        "smtp_port": controller.port,
        "smtp_security": "none",
        "mail_from": "metering@example.com",
    }


@pytest.fixture
def runtime(world: World, servers: Addresses, tmp_path: Path, server: Controller) -> Iterator[Runtime]:
    with running_app(world, tmp_path, **settings_for(servers, server)) as app:
        yield app.extensions["metering"].runtime


def post(world: World, **more: Any) -> Mail:
    made = mail.post(
        world.session, **{"to": "ada@example.com", "subject": "Hi", "body": "Text.\n", "now": world.now} | more
    )
    world.session.commit()
    return made


def test_an_email_arrives_once(world: World, runtime: Runtime, mailbox: Mailbox) -> None:
    made = post(world, subject="Größe: 80 %", body="Zeile eins\nZeile zwei\n")

    assert (mail.send_waiting(runtime), mail.send_waiting(runtime)) == (1, 0)
    (arrived,) = mailbox.messages
    assert (arrived["To"], arrived["From"]) == ("ada@example.com", "metering@example.com")
    assert arrived["Subject"] == "Größe: 80 %"
    assert arrived.get_content().splitlines() == ["Zeile eins", "Zeile zwei"]
    world.session.refresh(made)
    assert (made.sent_at, made.next_try_at) == (world.now, None)


def test_no_header_can_be_smuggled_in_and_what_cannot_be_sent_holds_up_nothing(
    world: World, runtime: Runtime, mailbox: Mailbox
) -> None:
    bad = post(world, to="ada@example.com\nBcc: all@example.com")
    post(world, subject="Hello\r\nBcc: all@example.com\r\n\r\nbody")

    assert mail.send_waiting(runtime) == 1
    (arrived,) = mailbox.messages
    assert arrived["Bcc"] is None
    assert arrived["Subject"] == "Hello Bcc: all@example.com body"
    world.session.refresh(bad)
    assert (bad.sent_at, bad.tries) == (None, 1)


def test_a_server_that_refuses_is_tried_again_until_the_email_expires(
    world: World, runtime: Runtime, mailbox: Mailbox
) -> None:
    made = post(world)
    mailbox.answer = "451 later"
    end = world.now + timedelta(days=2)
    waits = []
    while made.next_try_at is not None and world.now < end:
        waits.append(made.next_try_at - world.now)
        world.now = made.next_try_at
        assert mail.send_waiting(runtime) == 0
        world.session.refresh(made)

    assert made.next_try_at is None
    assert "451" in (made.fault or "")
    assert waits[1] == mail.FIRST_WAIT
    assert max(waits) == mail.LONGEST_WAIT
    assert world.now < made.expires_at


def test_a_server_that_is_away_loses_nothing(
    world: World, runtime: Runtime, mailbox: Mailbox, server: Controller
) -> None:
    made, other = post(world), post(world)
    server.stop()

    assert mail.send_waiting(runtime) == 0
    world.session.refresh(made)
    world.session.refresh(other)
    assert (made.tries, made.sent_at, other.tries) == (1, None, 0)  # one try tells that it is away
    assert made.next_try_at == world.now + mail.FIRST_WAIT


def test_what_is_not_encrypted_is_not_sent_where_encryption_is_asked_for(
    world: World, servers: Addresses, tmp_path: Path, server: Controller, mailbox: Mailbox
) -> None:
    post(world)
    settings = settings_for(servers, server) | {"smtp_security": "starttls"}
    with running_app(world, tmp_path, **settings) as app:
        assert mail.send_waiting(app.extensions["metering"].runtime) == 0
    assert mailbox.messages == []
    assert load_settings(env="development").smtp_security == "starttls"


def sent_by_one_that_dies(settings: dict[str, Any], now: datetime, place: str) -> None:
    failpoints.arm(f"{place}:1")
    mail.send_waiting(build_runtime(load_settings(**settings), clock=lambda: now))


@pytest.mark.parametrize(("place", "arrived"), [("mail.claimed", 1), ("mail.sent", 2)])
def test_a_killed_sender_repeats_and_loses_nothing(
    world: World, runtime: Runtime, mailbox: Mailbox, place: str, arrived: int
) -> None:
    made = post(world)
    sender = FORKS.Process(target=sent_by_one_that_dies, args=(runtime.settings.model_dump(), world.now, place))
    sender.start()
    sender.join()
    assert sender.exitcode == -signal.SIGKILL

    assert mail.send_waiting(runtime) == 0
    world.now += mail.CLAIM
    assert mail.send_waiting(runtime) == 1
    assert len(mailbox.messages) == arrived
    assert world.session.scalars(select(Mail.sent_at).where(Mail.id == made.id)).one() == world.now
