"""One's own account: passwords, addresses, sessions and the second step of a login."""

import re
import threading
from datetime import timedelta

import pyotp
import pytest
from flask import Flask
from sqlalchemy import select

from metering.accounts import two_step
from metering.models import AuditEntry, RecoveryCode, TotpSecret, User, UserSession
from metering.service import Metering
from tests.factories.mails import link_to, mails_to
from tests.factories.people import PASSWORD, Visitor, make_user
from tests.factories.world import World

OWNER = "owner@acme.example"
OTHER_PASSWORD = "another password of mine"
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0"
CODE = re.compile(r"\b(?:[a-z2-7]{4}-){3}[a-z2-7]{4}\b")


@pytest.fixture
def owner(world: World) -> User:
    return make_user(world, OWNER, world.customer("acme", "pro"))


@pytest.fixture
def visitor(app: Flask, owner: User) -> Visitor:
    return logged_in(app)


def logged_in(app: Flask, email: str = OWNER, **environ: str) -> Visitor:
    visitor = Visitor.of(app)
    visitor.client.environ_base |= environ
    assert visitor.log_in(email).status_code == 303
    return visitor


def post(visitor: Visitor, action: str, **fields: object):
    return visitor.submit("/account", action, **fields)


def rows(world: World) -> list[UserSession]:
    world.session.rollback()
    return list(world.session.scalars(select(UserSession).order_by(UserSession.id)))


# -- password and address ----------------------------------------------------------------------------------------------


def test_a_new_password_ends_all_other_sessions_and_keeps_this_one(app, visitor, world):
    other = logged_in(app)
    answer = post(visitor, "/account/password", current=PASSWORD, password=OTHER_PASSWORD)
    assert answer.status_code == 303
    assert visitor.open("/account").status_code == 200
    assert other.open("/account").status_code == 302
    assert Visitor.of(app).log_in(OWNER).status_code == 401
    assert Visitor.of(app).log_in(OWNER, OTHER_PASSWORD).status_code == 303
    assert mails_to(world.session, OWNER)[-1].subject == "Your password was changed"


@pytest.mark.parametrize(
    ("action", "fields"),
    [
        ("/account/password", {"current": "not mine at all", "password": OTHER_PASSWORD}),
        ("/account/email", {"current": "not mine at all", "email": "new@acme.example"}),
        ("/account/two-step/begin", {"password": "not mine at all"}),
        ("/account/two-step/off", {"password": "not mine at all"}),
        ("/account/two-step/codes", {"password": "not mine at all"}),
    ],
)
def test_what_matters_asks_for_the_password_and_throttles_tries(visitor, world, action, fields):
    answers = [post(visitor, action, **fields) for _ in range(11)]
    assert [one.status_code for one in answers] == [422] * 10 + [429]
    assert "This is not your password." in answers[0].text
    assert mails_to(world.session, "new@acme.example") == []
    assert world.session.scalars(select(AuditEntry)).all() == []


def test_a_new_address_is_proved_first_and_the_old_one_is_told(app, visitor, world, owner):
    post(visitor, "/account/email", email="New@Acme.example", current=PASSWORD)
    assert Visitor.of(app).log_in("new@acme.example").status_code == 401
    link = link_to(world.session, "new@acme.example")

    assert Visitor.of(app).open(link).status_code == 302, "by whoever is logged in"
    assert "new@acme.example" in visitor.open(link).text
    assert visitor.submit(link, link).status_code == 303

    assert Visitor.of(app).log_in("new@acme.example").status_code == 303
    assert Visitor.of(app).log_in(OWNER).status_code == 401
    told = mails_to(world.session, OWNER)[-1]
    assert told.subject == "Your email address was changed"
    assert "new@acme.example" in told.body
    assert visitor.open(link).status_code == 404


def test_a_link_for_another_address_is_its_users_alone_and_lasts_a_day(app, visitor, world):
    post(visitor, "/account/email", email="new@acme.example", current=PASSWORD)
    link = link_to(world.session, "new@acme.example")
    make_user(world, "bob@acme.example")
    assert logged_in(app, "bob@acme.example").open(link).status_code == 404
    world.advance(days=1)
    assert visitor.open(link).status_code == 404


def test_an_address_of_somebody_else_gets_no_link_and_the_same_answer(visitor, world):
    make_user(world, "bob@acme.example")
    taken = post(visitor, "/account/email", email="bob@acme.example", current=PASSWORD)
    free = post(visitor, "/account/email", email="new@acme.example", current=PASSWORD)
    assert (taken.status_code, taken.location) == (free.status_code, free.location)
    assert mails_to(world.session, "bob@acme.example") == []


# -- sessions ----------------------------------------------------------------------------------------------------------


def test_sessions_are_listed_as_people_read_them_and_ended(app, visitor, world):
    other = logged_in(app, HTTP_USER_AGENT=FIREFOX, REMOTE_ADDR="192.0.2.7")
    page = visitor.open("/account").text
    assert "Firefox on Windows" in page
    assert "192.0.2.7" in page

    post(visitor, f"/account/sessions/{rows(world)[-1].id}/end")

    assert other.open("/account").status_code == 302
    assert other.partial("/c/acme/live/usage").status_code == 401
    assert visitor.open("/account").status_code == 200
    assert "Firefox" not in visitor.open("/account").text


def test_nobody_ends_the_session_of_somebody_else(app, visitor, world):
    make_user(world, "bob@acme.example")
    bob = logged_in(app, "bob@acme.example")
    assert bob.submit("/account", f"/account/sessions/{rows(world)[0].id}/end").status_code == 404
    assert visitor.open("/account").status_code == 200


def test_logging_out_everywhere_does_so_here_too(app, visitor):
    other = logged_in(app)
    assert post(visitor, "/account/sessions/end").location == "/login"
    assert [one.open("/account").status_code for one in (visitor, other)] == [302, 302]


def test_a_copy_of_the_cookie_lets_nobody_in_after_logging_out(app, visitor):
    cookie = visitor.client.get_cookie("session")
    visitor.submit("/account", "/logout")
    thief = Visitor.of(app)
    thief.client.set_cookie("session", cookie.value)
    assert thief.open("/account").status_code == 302


def test_that_a_session_was_seen_is_written_down_once_a_minute(visitor, world):
    before = rows(world)[0].last_seen_at
    world.advance(seconds=59)
    visitor.open("/account")
    assert rows(world)[0].last_seen_at == before
    world.advance(seconds=1)
    visitor.open("/account")
    assert rows(world)[0].last_seen_at == world.now


def test_a_session_that_nobody_used_for_a_month_has_ended(visitor, world):
    world.advance(days=30)
    assert visitor.open("/account").status_code == 302


# -- the second step ---------------------------------------------------------------------------------------------------


@pytest.fixture
def secret(visitor: Visitor, world: World) -> str:
    """Of the owner, whose second step is on; `codes` of the same answer are tried elsewhere."""
    return turned_on(visitor, world)[0]


def turned_on(visitor: Visitor, world: World) -> tuple[str, list[str]]:
    post(visitor, "/account/two-step/begin", password=PASSWORD)
    page = visitor.open("/account/two-step").text
    assert "<svg" in page
    assert "style=" not in page
    world.session.rollback()
    secret = world.session.scalars(select(TotpSecret.secret)).one()
    answer = visitor.submit("/account/two-step", "/account/two-step", code=now_code(secret, world))
    codes = CODE.findall(answer.text)
    assert len(set(codes)) == 10
    world.advance(seconds=90)
    return secret, codes


def now_code(secret: str, world: World) -> str:
    return pyotp.TOTP(secret).at(world.now)


def second_step(app: Flask, code: str, **fields: str):
    visitor = Visitor.of(app)
    assert visitor.log_in(OWNER, **fields).location == "/login/code"
    assert visitor.open("/account").status_code == 302, "the password alone opens nothing"
    return visitor, visitor.submit("/login/code", "/login/code", code=code)


def test_a_login_takes_the_password_and_a_code(app, world, secret):
    visitor, answer = second_step(app, now_code(secret, world), next="/c/acme/keys")
    assert (answer.status_code, answer.location) == (303, "/c/acme/keys")
    assert visitor.open("/c/acme/keys").status_code == 200


def test_a_code_is_taken_once_and_about_its_time_only(app, world, secret):
    code = now_code(secret, world)
    assert second_step(app, code)[1].status_code == 303
    assert second_step(app, code)[1].status_code == 401
    world.advance(seconds=120)
    for seconds, status in ((60, 401), (30, 303)):
        code = pyotp.TOTP(secret).at(world.now - timedelta(seconds=seconds))
        assert second_step(app, code)[1].status_code == status


def test_the_code_that_turned_it_on_is_used_up(app, visitor, world):
    post(visitor, "/account/two-step/begin", password=PASSWORD)
    world.session.rollback()
    code = now_code(world.session.scalars(select(TotpSecret.secret)).one(), world)
    visitor.submit("/account/two-step", "/account/two-step", code=code)
    assert second_step(app, code)[1].status_code == 401


def test_until_it_is_confirmed_the_password_is_enough(app, visitor):
    post(visitor, "/account/two-step/begin", password=PASSWORD)
    assert Visitor.of(app).log_in(OWNER).location == "/"


def test_recovery_codes_work_once_and_are_kept_as_digests(app, visitor, world):
    _, codes = turned_on(visitor, world)
    assert second_step(app, codes[0].upper().replace("-", " "))[1].status_code == 303
    assert second_step(app, codes[0])[1].status_code == 401
    assert "9 of 10 recovery codes left" in visitor.open("/account").text
    world.session.rollback()
    kept = world.session.scalars(select(RecoveryCode.digest)).all()
    assert not {code.replace("-", "") for code in codes} & set(kept)
    answer = post(visitor, "/account/two-step/codes", password=PASSWORD)
    assert len(CODE.findall(answer.text)) == 10
    assert second_step(app, codes[1])[1].status_code == 401


@pytest.mark.parametrize("kind", ["app", "recovery"])
def test_of_equal_codes_at_once_one_is_taken(visitor, world, metering: Metering, owner, kind):
    secret, codes = turned_on(visitor, world)
    code = codes[0] if kind == "recovery" else now_code(secret, world)
    barrier, taken = threading.Barrier(4), []

    def use() -> None:
        barrier.wait()
        with metering.runtime.transaction() as session:
            taken.append(two_step.check(session, session.get_one(User, owner.id), code, now=world.now))

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(taken) == [False, False, False, True]


def test_tries_of_codes_are_throttled_for_the_account_from_anywhere(app, world, secret):
    """Here by ten browsers, whose passwords were right."""
    visitors = []
    for number in range(11):
        if number == 5:
            world.redis.flushdb()  # tries of the password are counted, too
        visitors.append(Visitor.of(app))
        visitors[-1].client.environ_base["REMOTE_ADDR"] = f"192.0.2.{number}"
        visitors[-1].log_in(OWNER)
    answers = [one.submit("/login/code", "/login/code", code="000000").status_code for one in visitors]
    assert answers == [401] * 10 + [429]


def test_the_password_is_right_for_five_minutes(app, world, secret):
    visitor = Visitor.of(app)
    visitor.log_in(OWNER)
    page = visitor.open("/login/code")
    assert page.status_code == 200
    world.advance(minutes=5, seconds=1)
    assert visitor.open("/login/code").location == "/login"


def test_turning_it_off_takes_the_password_and_is_written_down(app, visitor, world, secret):
    post(visitor, "/account/two-step/off", password=PASSWORD)
    assert Visitor.of(app).log_in(OWNER).location == "/"
    done = world.session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)).all()
    assert done == ["user.begin_two_step", "user.turn_on_two_step", "user.turn_off_two_step"]


def test_a_new_password_does_not_turn_it_off(app, visitor, world, secret):
    post(visitor, "/account/password", current=PASSWORD, password=OTHER_PASSWORD)
    assert Visitor.of(app).log_in(OWNER, OTHER_PASSWORD).location == "/login/code"
