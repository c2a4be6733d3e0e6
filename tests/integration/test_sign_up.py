"""Signing up and forgotten passwords: who gets in, which link works how often, and what nobody learns."""

import threading

import pytest
from flask import Flask
from sqlalchemy import func, select

from metering.accounts.credentials import send_reset_links
from metering.accounts.sign_up import confirm_sign_up
from metering.dashboard import signing_up
from metering.errors import MeteringError
from metering.models import AuditEntry, Customer, Membership, PasswordReset, User
from metering.notify.mail import send_waiting
from metering.service import Metering
from tests.conftest import running_app
from tests.factories.mails import link_to, mails_to
from tests.factories.people import PASSWORD, Visitor, make_user
from tests.factories.statements import counting
from tests.factories.world import World

NEW = "ada@initech.example"
FIELDS = {"name": "Ada", "organization": "Initech & Co", "email": NEW, "password": PASSWORD}
OTHER_PASSWORD = "another password of mine"


@pytest.fixture
def visitor(app: Flask) -> Visitor:
    return Visitor.of(app)


def sign_up(visitor: Visitor, **changes: str):
    return visitor.submit("/signup", "/signup", **(FIELDS | changes))


def forgot(visitor: Visitor, metering: Metering, email: str = "owner@acme.example") -> int:
    visitor.submit("/forgot", "/forgot", email=email)
    return send_reset_links(metering.runtime)


@pytest.fixture
def owner(world: World) -> User:
    return make_user(world, "owner@acme.example", world.customer("acme", "pro"))


# -- signing up --------------------------------------------------------------------------------------------------------


def test_a_confirmed_address_makes_a_user_who_owns_a_customer_on_the_free_plan(visitor, world):
    assert sign_up(visitor).location == "/mail-sent?what=signup"
    assert world.session.scalar(select(func.count(User.id))) == 0
    link = link_to(world.session, NEW)

    answer = visitor.submit(link, link, password=PASSWORD)

    assert (answer.status_code, answer.location) == (303, "/")
    assert visitor.open("/").location == "/c/initech-co/"
    page = visitor.open("/c/initech-co/keys").text
    assert "Your address is confirmed" in page
    assert "Create a key" in page
    customer = world.find("initech-co")
    assert (customer.name, customer.plan) == ("Initech & Co", "free")
    assert world.session.scalars(select(Membership.role)).one() == "owner"
    assert world.used("seats", "initech-co") == 1
    done = world.session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)).all()
    assert done == ["customer.sign_up", "user.sign_up"]


def test_opening_the_link_changes_nothing_and_it_works_once(visitor, world):
    sign_up(visitor)
    link = link_to(world.session, NEW)
    assert visitor.open(link).status_code == 200
    assert world.session.scalar(select(func.count(User.id))) == 0
    visitor.submit(link, link, password=PASSWORD)
    assert visitor.open(link).status_code == 404


def test_who_signs_up_with_anothers_address_gets_nothing(visitor, world):
    """The link goes to whose address it is, who does not know the password."""
    sign_up(visitor)
    link = link_to(world.session, NEW)
    answer = visitor.submit(link, link, password="I never chose one")
    assert answer.status_code == 422
    assert "not the password you chose" in answer.text
    assert world.session.scalar(select(func.count(User.id))) == 0


def test_a_link_expires_after_a_day(visitor, world):
    sign_up(visitor)
    link = link_to(world.session, NEW)
    world.advance(days=1, seconds=-1)
    assert visitor.open(link).status_code == 200
    world.advance(seconds=1)
    assert visitor.open(link).status_code == 404


def test_an_address_that_is_known_gets_the_same_answer_and_another_message(visitor, world, owner, app):
    with counting(app.extensions["metering"].runtime.engine) as for_known:
        known = sign_up(visitor, email="Owner@acme.example")
    with counting(app.extensions["metering"].runtime.engine) as for_new:
        new = sign_up(visitor)
    assert (known.status_code, known.location) == (new.status_code, new.location)
    assert for_known == for_new
    message = mails_to(world.session, "owner@acme.example")[-1]
    assert message.subject == "You have an account already"
    assert "/verify/" not in message.body


def test_two_customers_of_one_name_have_keys_of_their_own(visitor, world, app):
    world.customer("initech-co")
    sign_up(visitor)
    link = link_to(world.session, NEW)
    visitor.submit(link, link, password=PASSWORD)
    keys = world.session.scalars(select(Customer.key).order_by(Customer.id)).all()
    assert keys[0] == "initech-co"
    assert keys[1].startswith("initech-co-")


def test_of_two_who_confirm_at_once_one_makes_the_account(visitor, world, metering):
    sign_up(visitor)
    token = link_to(world.session, NEW).rpartition("/")[2]
    barrier, made = threading.Barrier(2), []

    def confirm() -> None:
        barrier.wait()
        try:
            made.append(confirm_sign_up(metering.runtime, token, PASSWORD).email)
        except MeteringError as error:
            made.append(error.code)

    threads = [threading.Thread(target=confirm) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert NEW in made
    assert len(set(made)) == 2
    assert world.session.scalar(select(func.count(Customer.id))) == 1
    assert world.session.scalar(select(func.count(User.id))) == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"email": "no address"}, "This is no email address."),
        ({"password": "short"}, "10 to 256 characters."),
        ({"name": ""}, "Enter your name."),
        ({"organization": "\u202e"}, "Plain characters only."),
    ],
)
def test_what_is_wrong_is_said(visitor, changes, says):
    answer = sign_up(visitor, **changes)
    assert answer.status_code == 422
    assert says in answer.text


def test_sign_up_may_be_closed_and_is_in_production(world, servers, tmp_path):
    addresses = {"database_url": servers.database_url, "redis_url": servers.redis_url}
    with running_app(world, tmp_path, sign_up="closed", **addresses) as app:
        assert app.test_client().get("/signup").status_code == 403
        assert "/signup" not in app.test_client().get("/login").text
    with running_app(world, tmp_path, env="production", secret_key="s" * 32, **addresses) as app:
        assert "by invitation" in app.test_client().get("/signup").text


def test_where_no_email_is_sent_nobody_is_told_that_one_is(world, servers, tmp_path):
    addresses = {"database_url": servers.database_url, "redis_url": servers.redis_url}
    with running_app(world, tmp_path, env="production", secret_key="s" * 32, sign_up="open", **addresses) as app:
        for path in ("/signup", "/forgot"):
            answer = app.test_client().get(path)
            assert answer.status_code == 503
            assert "sends no email" in answer.text


def test_what_is_kept_of_a_message_lets_nobody_in(visitor, world, metering, capsys):
    sign_up(visitor)
    link = link_to(world.session, NEW)
    send_waiting(metering.runtime)
    assert link in capsys.readouterr().err, "development prints what it would send"
    assert "mt_***" in mails_to(world.session, NEW)[-1].body
    assert link.rpartition("/")[2] not in mails_to(world.session, NEW)[-1].body


def test_no_log_tells_the_token_of_a_link(visitor, world, monkeypatch, capsys):
    sign_up(visitor)
    link = link_to(world.session, NEW)
    visitor.client.application.config["PROPAGATE_EXCEPTIONS"] = False
    monkeypatch.setattr(signing_up, "find_sign_up", lambda *_, **__: 1 / 0)
    capsys.readouterr()
    assert visitor.open(link).status_code == 500
    logged = capsys.readouterr().err
    assert "request_failed" in logged
    assert link.rpartition("/")[2] not in logged


def test_sign_ups_are_throttled(visitor):
    answers = [sign_up(visitor).status_code for _ in range(11)]
    assert answers == [303] * 10 + [429]


# -- forgotten passwords -----------------------------------------------------------------------------------------------


def test_a_forgotten_password_is_replaced_and_every_session_ends(app, visitor, world, owner, metering):
    inside = Visitor.of(app)
    inside.log_in("owner@acme.example")
    assert forgot(visitor, metering) == 1
    link = link_to(world.session, "owner@acme.example")

    answer = visitor.submit(link, link, password=OTHER_PASSWORD)

    assert (answer.status_code, answer.location) == (303, "/login")
    assert inside.open("/c/acme/").status_code == 302
    assert visitor.log_in("owner@acme.example").status_code == 401
    assert visitor.log_in("owner@acme.example", OTHER_PASSWORD).status_code == 303
    assert mails_to(world.session, "owner@acme.example")[-1].subject == "Your password was changed"


def test_a_link_to_reset_works_once_for_an_hour_and_none_outlives_a_new_password(visitor, world, owner, metering):
    forgot(visitor, metering)
    first = link_to(world.session, "owner@acme.example")
    world.advance(minutes=30)
    forgot(visitor, metering)
    second = link_to(world.session, "owner@acme.example")
    assert [visitor.open(link).status_code for link in (first, second)] == [200, 200]
    world.advance(minutes=30)
    assert [visitor.open(link).status_code for link in (first, second)] == [404, 200]
    forgot(visitor, metering)
    third = link_to(world.session, "owner@acme.example")
    visitor.submit(second, second, password=OTHER_PASSWORD)
    assert [visitor.open(link).status_code for link in (second, third)] == [404, 404]


def test_an_address_of_nobody_gets_the_same_answer_by_the_same_statements(visitor, world, owner, app, metering):
    with counting(metering.runtime.engine) as for_known:
        known = visitor.submit("/forgot", "/forgot", email="owner@acme.example")
    with counting(metering.runtime.engine) as for_nobody:
        nobody = visitor.submit("/forgot", "/forgot", email="nobody@acme.example")
    assert (known.status_code, known.location) == (nobody.status_code, nobody.location)
    assert visitor.open(known.location).text == visitor.open(nobody.location).text
    assert for_known == for_nobody
    assert send_reset_links(metering.runtime) == 1
    assert mails_to(world.session, "nobody@acme.example") == []


def test_of_a_link_nothing_but_a_digest_is_kept(visitor, world, owner, metering):
    forgot(visitor, metering)
    token = link_to(world.session, "owner@acme.example").rpartition("/")[2]
    kept = world.session.scalars(select(PasswordReset)).one()
    assert token not in repr(vars(kept))
    assert len(kept.digest) == 64


def test_links_lead_where_the_operator_says_and_not_where_a_request_does(world, servers, tmp_path, owner):
    addresses = {"database_url": servers.database_url, "redis_url": servers.redis_url}
    mail = {"smtp_host": "127.0.0.1", "public_url": "https://metering.example"}
    with running_app(world, tmp_path, env="production", secret_key="s" * 32, **addresses, **mail) as app:
        app.config.update(WTF_CSRF_ENABLED=False)
        answer = app.test_client().post("/forgot", data={"email": owner.email}, headers={"Host": "evil.example"})
        assert answer.status_code == 303
        send_reset_links(app.extensions["metering"].runtime)
    assert "https://metering.example/reset/mt_" in mails_to(world.session, owner.email)[-1].body


def test_asking_is_throttled_by_address(visitor):
    answers = [visitor.submit("/forgot", "/forgot", email="a@b.example").status_code for _ in range(11)]
    assert answers == [303] * 10 + [429]
