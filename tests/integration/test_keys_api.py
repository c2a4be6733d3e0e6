"""API keys by the HTTP API: made, listed, replaced with an overlap, revoked."""

from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import select

from metering.accounts.keys import find_caller
from metering.ids import key_digest
from metering.models import ApiKey, AuditEntry
from tests.factories.callers import ApiConsumer
from tests.factories.hosts import host_app
from tests.factories.managers import admin, operator
from tests.factories.world import World

KEYS = "/api/v1/customers/acme/keys"
PING = "/api/v1/sample/ping"


@pytest.fixture
def ops(app: Flask, world: World) -> ApiConsumer:
    return operator(app, world)


@pytest.fixture
def acme(app: Flask, world: World) -> ApiConsumer:
    return admin(app, world, world.customer("acme"))


@pytest.fixture
def stranger(app: Flask, world: World) -> ApiConsumer:
    return admin(app, world, world.customer("stranger"))


def make(caller: ApiConsumer, *scopes: str, path: str = KEYS) -> dict:
    made = caller.post(path, json={"name": "server", "scopes": list(scopes or ("meter",))})
    assert made.status_code == 201, made.text
    body: dict = made.json
    return body


def status(app: Flask, secret: str, path: str = PING) -> int:
    return ApiConsumer(app, secret, "").get(path).status_code


def test_a_secret_is_shown_once_and_works_at_once(app: Flask, acme: ApiConsumer, world: World) -> None:
    made = make(acme, "meter", "usage:read")

    assert status(app, made["secret"]) == 200
    listed = acme.get(KEYS).json["items"]
    assert listed[0] == {name: value for name, value in made.items() if name != "secret"}
    assert listed[0]["scopes"] == ["meter", "usage:read"]
    assert made["secret"].startswith(listed[0]["prefix"])
    assert made["secret"] not in acme.get(KEYS).text
    (entry,) = world.session.scalars(select(AuditEntry).where(AuditEntry.action == "key.create"))
    assert made["secret"] not in str(entry.detail)


def test_keys_are_listed_in_pages_newest_first(acme: ApiConsumer) -> None:
    ids = [make(acme)["id"] for _ in range(4)]

    first = acme.get(KEYS, query_string={"limit": 3}).json
    second = acme.get(KEYS, query_string={"limit": 3, "cursor": first["next_cursor"]}).json

    assert [one["id"] for one in [*first["items"], *second["items"]]][:4] == ids[::-1]
    assert second["next_cursor"] is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "", "scopes": ["meter"]}, "name"),
        ({"name": "a\nb", "scopes": ["meter"]}, "name"),
        ({"name": "a", "scopes": []}, "scopes"),
        ({"name": "a", "scopes": ["root"]}, "scopes"),
        ({"name": "a", "scopes": ["events:write"]}, "scopes"),
        ({"name": "a", "scopes": ["meter"], "expires": 1}, "expires"),
    ],
)
def test_bad_input_is_refused_and_named(acme: ApiConsumer, body: dict, field: str) -> None:
    answer = acme.post(KEYS, json=body)

    assert answer.status_code == 400
    assert answer.json.get("field") == field or answer.json["errors"][0]["field"] == field


def test_only_operators_grant_what_writes_the_bill(app: Flask, acme: ApiConsumer, ops: ApiConsumer) -> None:
    granted = make(ops, "events:write", "usage:read")

    assert granted["scopes"] == ["events:write", "usage:read"]
    # Replacing it would show the customer a new secret that carries the scope.
    assert acme.post(f"{KEYS}/{granted['id']}/rotate", json={}).status_code == 403
    assert ops.post(f"{KEYS}/{granted['id']}/rotate", json={}).status_code == 201


def test_a_stranger_finds_nothing(acme: ApiConsumer, stranger: ApiConsumer, app: Flask) -> None:
    made = make(acme)
    own = "/api/v1/customers/stranger/keys"

    assert stranger.get(KEYS).status_code == 404
    assert stranger.post(KEYS, json={"name": "x", "scopes": ["meter"]}).status_code == 404
    for base, code in ((KEYS, "unknown-customer"), (own, "not-found")):
        for method, path in (("POST", f"{base}/{made['id']}/rotate"), ("DELETE", f"{base}/{made['id']}")):
            answer = stranger.call(method, path, **({"json": {}} if method == "POST" else {}))
            assert (answer.status_code, answer.json["type"]) == (404, f"/problems/{code}")
    assert status(app, made["secret"]) == 200


def test_a_revoked_key_is_refused_at_once_and_for_good(app: Flask, acme: ApiConsumer, world: World) -> None:
    made = make(acme)

    assert acme.delete(f"{KEYS}/{made['id']}").status_code == 204
    assert status(app, made["secret"]) == 401
    revoked_at = acme.get(KEYS).json["items"][0]["revoked_at"]
    world.advance(hours=1)
    assert acme.delete(f"{KEYS}/{made['id']}").status_code == 204
    assert acme.get(KEYS).json["items"][0]["revoked_at"] == revoked_at
    assert acme.post(f"{KEYS}/{made['id']}/rotate", json={}).status_code == 409
    assert acme.delete(f"{KEYS}/{2**70}").status_code == 404


def test_a_rotated_key_works_to_the_end_of_the_overlap_exactly(app: Flask, acme: ApiConsumer, world: World) -> None:
    old = make(acme, "meter", "usage:read")

    new = acme.post(f"{KEYS}/{old['id']}/rotate", json={"overlap_seconds": 3600}).json

    assert (new["name"], new["scopes"]) == (old["name"], old["scopes"])
    assert new["secret"] != old["secret"]
    assert acme.get(KEYS).json["items"][1]["expires_at"] == "2026-11-10T13:00:00Z"
    ends = world.now + timedelta(hours=1)
    for moment, expected in ((ends - timedelta(microseconds=1), 200), (ends, 401)):
        world.now = moment
        assert status(app, old["secret"]) == expected  # metered: by the script that lets calls in
        assert status(app, old["secret"], "/api/v1/usage") == expected  # by the one that authenticates
        found = find_caller(world.session, key_digest(old["secret"]), now=moment)
        assert (found is not None) == (expected == 200)
        assert status(app, new["secret"]) == 200


def test_without_an_overlap_the_old_key_stops_at_once(app: Flask, acme: ApiConsumer) -> None:
    old = make(acme)

    new = acme.post(f"{KEYS}/{old['id']}/rotate", json={}).json

    assert (status(app, old["secret"]), status(app, new["secret"])) == (401, 200)
    assert acme.post(f"{KEYS}/{old['id']}/rotate", json={}).status_code == 409


def test_a_key_is_replaced_once_and_then_its_successor(app: Flask, acme: ApiConsumer, world: World) -> None:
    old = make(acme)
    new = acme.post(f"{KEYS}/{old['id']}/rotate", json={"overlap_seconds": 60}).json
    kept = len(acme.get(KEYS).json["items"])

    again = acme.post(f"{KEYS}/{old['id']}/rotate", json={"overlap_seconds": 3600})

    assert (again.status_code, again.json["type"]) == (409, "/problems/conflict")
    assert again.json["expires_at"] == "2026-11-10T12:01:00Z"
    assert len(acme.get(KEYS).json["items"]) == kept
    assert acme.post(f"{KEYS}/{new['id']}/rotate", json={"overlap_seconds": 60}).status_code == 201
    world.advance(seconds=60)
    assert status(app, old["secret"]) == 401


@pytest.mark.parametrize("overlap", [-1, 604_801, "60", 1.5, None])
def test_a_bad_overlap_is_refused_and_named(acme: ApiConsumer, overlap: object) -> None:
    old = make(acme)

    answer = acme.post(f"{KEYS}/{old['id']}/rotate", json={"overlap_seconds": overlap})

    assert (answer.status_code, answer.json["errors"][0]["field"]) == (400, "overlap_seconds")


def test_an_expiry_and_a_revocation_outlive_redis(app: Flask, acme: ApiConsumer, world: World) -> None:
    old, revoked = make(acme), make(acme)
    acme.post(f"{KEYS}/{old['id']}/rotate", json={"overlap_seconds": 60})
    acme.delete(f"{KEYS}/{revoked['id']}")
    world.redis.flushdb()
    world.rebuild_lost()

    assert (status(app, old["secret"]), status(app, revoked["secret"])) == (200, 401)
    world.advance(seconds=60)
    assert status(app, old["secret"]) == 401


def test_an_expired_key_is_refused_on_trust_too(app: Flask, acme: ApiConsumer, world: World, tmp_path, servers) -> None:
    old = make(acme)
    acme.post(f"{KEYS}/{old['id']}/rotate", json={"overlap_seconds": 60})
    away = {"database_url": servers.database_url, "redis_url": "redis://127.0.0.1:1/0", "on_outage": "allow"}

    with host_app(world, tmp_path, **away) as host:
        assert status(host, old["secret"], "/call") == 200
        world.advance(seconds=60)
        assert status(host, old["secret"], "/call") == 401


def test_operators_manage_their_own_keys(app: Flask, ops: ApiConsumer, acme: ApiConsumer, world: World) -> None:
    made = make(ops, "admin", path="/api/v1/operator-keys")
    other = ApiConsumer(app, made["secret"], "")

    assert other.get("/api/v1/customers/acme").status_code == 200
    listed = ops.get("/api/v1/operator-keys").json["items"]
    assert listed[0]["id"] == made["id"]
    theirs = world.session.scalars(select(ApiKey.id).where(ApiKey.customer_id.is_not(None))).first()
    assert ops.delete(f"/api/v1/operator-keys/{theirs}").status_code == 404
    assert ops.delete(f"/api/v1/operator-keys/{made['id']}").status_code == 204
    assert other.get("/api/v1/customers/acme").status_code == 401
