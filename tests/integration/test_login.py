"""Logging in and out: who gets in, who learns nothing, and where nobody can be sent."""

import re

import pytest
from flask import Flask

from metering.accounts.passwords import hash_password
from metering.models import User
from tests.conftest import running_app
from tests.factories.fault_proxy import postgres_proxy, redis_proxy
from tests.factories.people import PASSWORD, Visitor, make_user
from tests.factories.world import World

TRIES = 10


@pytest.fixture
def owner(world: World) -> User:
    return make_user(world, "owner@acme.example", world.customer("acme", "pro"))


@pytest.fixture
def visitor(app: Flask, owner: User) -> Visitor:
    return Visitor.of(app)


def test_a_visitor_is_sent_to_the_login_and_then_where_they_wanted_to_go(visitor):
    asked = visitor.open("/c/acme/keys")
    assert (asked.status_code, asked.location) == (302, "/login?next=/c/acme/keys")
    page = visitor.open(asked.location)
    assert 'name="next" value="/c/acme/keys"' in page.text
    answer = visitor.log_in("owner@acme.example", next="/c/acme/keys")
    assert (answer.status_code, answer.location) == (303, "/c/acme/keys")
    assert visitor.open("/c/acme/keys").status_code == 200


def test_without_a_wish_the_overview_of_ones_customer_follows(visitor):
    assert visitor.log_in(" Owner@ACME.example ").location == "/"
    assert visitor.open("/").location == "/c/acme/"


@pytest.mark.parametrize(
    ("email", "password"),
    [("owner@acme.example", "not the one"), ("nobody@acme.example", PASSWORD), ("owner", PASSWORD)],
)
def test_wrong_email_and_wrong_password_read_the_same(visitor, email, password):
    answer = visitor.log_in(email, password)
    assert answer.status_code == 401
    assert "The email or the password is wrong." in answer.text
    assert password not in answer.text
    assert visitor.open("/c/acme/").status_code == 302


def test_missing_fields_are_named(visitor):
    answer = visitor.log_in("", "")
    assert answer.status_code == 422
    assert "Enter your email." in answer.text
    assert "Enter your password." in answer.text


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "javascript:alert(1)",
        "/\t/evil.example",
        "/\r/evil.example",
        "c/acme",
    ],
)
def test_nobody_is_sent_elsewhere(visitor, target):
    page = visitor.client.get("/login", query_string={"next": target})
    assert "evil" not in page.text
    assert visitor.log_in("owner@acme.example", next=target).location == "/"


def test_the_session_is_a_new_one_after_the_login(visitor):
    visitor.open("/login")
    with visitor.client.session_transaction() as session:
        session["planted"] = "by somebody else"
        before = session["csrf_token"]
    visitor.log_in("owner@acme.example")
    with visitor.client.session_transaction() as session:
        assert "planted" not in session
        assert session.get("csrf_token") != before


def test_a_session_lasts_as_long_as_the_browser_unless_it_is_remembered(visitor):
    answer = visitor.log_in("owner@acme.example")
    assert not [cookie for cookie in answer.headers.getlist("Set-Cookie") if cookie.startswith("remember_token")]
    remembered = Visitor.of(visitor.client.application)
    answer = remembered.log_in("owner@acme.example", remember="y")
    cookie = next(one for one in answer.headers.getlist("Set-Cookie") if one.startswith("remember_token"))
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    remembered.client.delete_cookie("session")
    assert remembered.open("/c/acme/").status_code == 200


def test_logging_out_needs_a_form_and_ends_the_session(visitor):
    visitor.log_in("owner@acme.example", remember="y")
    assert visitor.open("/logout").status_code == 405
    assert visitor.client.post("/logout").status_code == 400
    assert visitor.open("/c/acme/").status_code == 200
    answer = visitor.submit("/c/acme/", "/logout")
    assert (answer.status_code, answer.location) == (303, "/login")
    assert visitor.open("/c/acme/").status_code == 302


def test_a_changed_password_ends_all_sessions(visitor, world, owner):
    visitor.log_in("owner@acme.example")
    owner.password_hash = hash_password("another password of mine")
    world.session.commit()
    assert visitor.open("/c/acme/").status_code == 302


def test_a_form_without_its_token_is_refused(visitor):
    answer = visitor.client.post("/login", data={"email": "owner@acme.example", "password": PASSWORD})
    assert answer.status_code == 400
    assert visitor.open("/c/acme/").status_code == 302


def test_tries_against_one_account_are_counted_from_anywhere(app, visitor):
    for number in range(TRIES):
        visitor.client.environ_base["REMOTE_ADDR"] = f"192.0.2.{number}"
        assert visitor.log_in("owner@acme.example", f"wrong {number}").status_code == 401
    visitor.client.environ_base["REMOTE_ADDR"] = "192.0.2.200"
    answer = visitor.log_in("OWNER@acme.example ")
    assert answer.status_code == 429
    assert "Too many tries" in answer.text


def test_tries_from_one_address_are_counted_for_any_account(visitor):
    for number in range(TRIES):
        assert visitor.log_in(f"user{number}@acme.example", "wrong").status_code == 401
    assert visitor.log_in("owner@acme.example").status_code == 429
    assert visitor.open("/login").status_code == 200


def test_the_count_of_tries_is_shared_by_all_processes(world, servers, tmp_path, redis, owner):
    addresses = {"database_url": servers.database_url, "redis_url": servers.redis_url}
    for _ in range(2):
        with running_app(world, tmp_path, **addresses) as app:
            visitor = Visitor.of(app)
            answers = [visitor.log_in("owner@acme.example", "wrong").status_code for _ in range(TRIES // 2)]
    assert answers == [401] * (TRIES // 2)
    with running_app(world, tmp_path, **addresses) as app:
        assert Visitor.of(app).log_in("owner@acme.example").status_code == 429
    stored = [key.decode() for key in redis.keys("*login*")]
    assert stored
    assert not [key for key in stored if "owner" in key]


def test_tries_are_counted_while_redis_is_away(world, servers, tmp_path, owner):
    proxy, through = redis_proxy(servers.redis_url)
    with running_app(world, tmp_path, database_url=servers.database_url, redis_url=through) as app:
        proxy.cut()
        visitor = Visitor.of(app)
        answers = [visitor.log_in("owner@acme.example", "wrong").status_code for _ in range(TRIES + 1)]
    assert answers == [401] * TRIES + [429]


def test_nobody_logs_in_while_postgresql_is_away_and_the_page_says_so(world, servers, tmp_path, owner):
    proxy, through = postgres_proxy(servers.database_url)
    with running_app(world, tmp_path, database_url=through, redis_url=servers.redis_url) as app:
        visitor = Visitor.of(app)
        page = visitor.open("/login").text
        proxy.cut()
        token = re.search(r'name="csrf_token" value="([^"]+)"', page)[1]
        fields = {"email": "owner@acme.example", "password": PASSWORD, "csrf_token": token}
        answer = visitor.client.post("/login", data=fields)
        assert answer.status_code == 503
        assert "Not available right now" in answer.text
        proxy.mend()
        assert visitor.log_in("owner@acme.example").status_code == 303


@pytest.mark.parametrize(
    ("proxies", "forwarded", "counted_apart"),
    [
        (0, "203.0.113.{number}", False),
        (1, "203.0.113.{number}", True),
        (1, "203.0.113.{number}, 198.51.100.7", False),
        (2, "203.0.113.{number}, 198.51.100.7", True),
    ],
)
def test_visitors_are_told_apart_by_as_many_proxies_as_are_trusted(
    world, servers, tmp_path, proxies, forwarded, counted_apart
):
    addresses = {"database_url": servers.database_url, "redis_url": servers.redis_url}
    with running_app(world, tmp_path, **addresses, trusted_proxies=proxies) as app:
        app.config["WTF_CSRF_ENABLED"] = False
        client = app.test_client()
        answers = [
            client.post(
                "/login",
                data={"email": f"nobody{number}@acme.example", "password": "wrong"},
                headers={"X-Forwarded-For": forwarded.format(number=number)},
            ).status_code
            for number in range(TRIES + 1)
        ]
    assert answers[:-1] == [401] * TRIES
    assert answers[-1] == (401 if counted_apart else 429)


def test_who_belongs_to_no_customer_is_told_what_to_do(app, world):
    make_user(world, "lonely@acme.example")
    visitor = Visitor.of(app)
    visitor.log_in("lonely@acme.example")
    assert visitor.open("/").location == "/customers"
    page = visitor.open("/customers")
    assert page.status_code == 200
    assert "You belong to no customer yet" in page.text
    assert visitor.submit("/customers", "/logout").status_code == 303


def test_an_operator_without_a_customer_sees_all_of_them(app, world):
    make_user(world, "operator@metering.example", operator=True)
    world.customer("acme")
    world.customer("bravo")
    visitor = Visitor.of(app)
    visitor.log_in("operator@metering.example")
    page = visitor.open("/customers").text
    assert 'href="/c/acme/"' in page
    assert 'href="/c/bravo/"' in page
