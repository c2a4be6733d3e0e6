"""Members of a customer by the HTTP API: seats follow them, the last owner stays."""

import threading

import pytest
from flask import Flask
from sqlalchemy import select

from metering.models import AuditEntry, Membership
from tests.factories.callers import ApiConsumer
from tests.factories.managers import admin, operator
from tests.factories.people import make_user
from tests.factories.world import World

MEMBERS = "/api/v1/customers/acme/members"


@pytest.fixture
def ops(app: Flask, world: World) -> ApiConsumer:
    return operator(app, world)


@pytest.fixture
def acme(app: Flask, world: World) -> ApiConsumer:
    """On a plan with ten seats, one of them taken by an owner."""
    caller = admin(app, world, world.customer("acme", "pro"))
    make_user(world, "ada@acme.example", world.find("acme"), "owner")
    return caller


@pytest.fixture
def stranger(app: Flask, world: World) -> ApiConsumer:
    return admin(app, world, world.customer("stranger"))


def join(caller: ApiConsumer, world: World, email: str, role: str = "member") -> int:
    make_user(world, email)
    made = caller.post(MEMBERS, json={"email": email, "role": role})
    assert made.status_code == 201, made.text
    user_id: int = made.json["user_id"]
    return user_id


def test_a_user_joins_changes_role_and_leaves(acme: ApiConsumer, world: World) -> None:
    make_user(world, "bob@acme.example")

    made = acme.post(MEMBERS, json={"email": " Bob@Acme.example "})

    assert made.status_code == 201
    assert made.json == {
        "user_id": made.json["user_id"],
        "email": "bob@acme.example",
        "name": "bob",
        "role": "member",
        "joined_at": "2026-11-10T12:00:00Z",
    }
    bob = f"{MEMBERS}/{made.json['user_id']}"
    assert world.used("seats") == 2
    assert acme.get(bob).headers["ETag"] == made.headers["ETag"]
    assert acme.call("PATCH", bob, json={"role": "admin"}).json["role"] == "admin"
    assert [one["role"] for one in acme.get(MEMBERS).json["items"]] == ["owner", "admin"]
    assert acme.delete(bob).status_code == 204
    assert acme.get(bob).status_code == 404
    assert world.used("seats") == 1
    done = world.session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)).all()
    assert done == ["member.add", "member.change", "member.remove"]


def test_members_are_listed_in_pages(acme: ApiConsumer, world: World) -> None:
    ids = [join(acme, world, f"u{number}@acme.example") for number in range(3)]

    first = acme.get(MEMBERS, query_string={"limit": 2}).json
    second = acme.get(MEMBERS, query_string={"limit": 2, "cursor": first["next_cursor"]}).json

    assert [one["user_id"] for one in [*first["items"], *second["items"]]][1:] == ids
    assert second["next_cursor"] is None


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"email": "nobody@acme.example"}, 404, "unknown-user"),
        ({"email": "no address"}, 400, "invalid-user"),
        ({"email": "ada@acme.example", "role": "king"}, 400, "invalid-request"),
        ({"role": "member"}, 400, "invalid-request"),
        ({"email": "ada@acme.example"}, 409, "conflict"),
    ],
)
def test_bad_input_is_refused_and_named(acme: ApiConsumer, body: dict, status: int, code: str) -> None:
    answer = acme.post(MEMBERS, json=body)

    assert (answer.status_code, answer.json["type"]) == (status, f"/problems/{code}")


def test_a_stranger_finds_nothing(acme: ApiConsumer, stranger: ApiConsumer, world: World) -> None:
    bob = join(acme, world, "bob@acme.example")
    make_user(world, "eve@stranger.example")

    assert stranger.get(MEMBERS).status_code == 404
    assert stranger.post(MEMBERS, json={"email": "eve@stranger.example", "role": "owner"}).status_code == 404
    for base in (MEMBERS, "/api/v1/customers/stranger/members"):
        assert stranger.get(f"{base}/{bob}").status_code == 404
        assert stranger.call("PATCH", f"{base}/{bob}", json={"role": "viewer"}).status_code == 404
        assert stranger.delete(f"{base}/{bob}").status_code == 404
    assert acme.get(f"{MEMBERS}/{bob}").json["role"] == "member"


def test_no_more_join_than_there_are_seats(app: Flask, world: World) -> None:
    caller = admin(app, world, world.customer("acme", "free"))
    join(caller, world, "ada@acme.example", "owner")
    make_user(world, "bob@acme.example")

    refused = caller.post(MEMBERS, json={"email": "bob@acme.example"})

    assert (refused.status_code, refused.json["type"]) == (429, "/problems/limit-exceeded")
    assert (refused.json["meter"], refused.json["remaining"]) == ("seats", 0)
    assert len(caller.get(MEMBERS).json["items"]) == 1


def test_the_last_owner_stays(acme: ApiConsumer, ops: ApiConsumer, world: World) -> None:
    ada = f"{MEMBERS}/{acme.get(MEMBERS).json['items'][0]['user_id']}"
    bob = f"{MEMBERS}/{join(acme, world, 'bob@acme.example')}"

    for caller in (acme, ops):
        assert caller.delete(ada).status_code == 409
        assert caller.call("PATCH", ada, json={"role": "admin"}).status_code == 409
        assert caller.call("PATCH", ada, json={"role": "owner"}).status_code == 200
    acme.call("PATCH", bob, json={"role": "owner"})
    assert acme.call("PATCH", ada, json={"role": "viewer"}).status_code == 200
    assert acme.delete(bob).status_code == 409


def test_of_two_owners_who_leave_at_once_one_stays(acme: ApiConsumer, world: World) -> None:
    join(acme, world, "bob@acme.example", "owner")
    ids = [one["user_id"] for one in acme.get(MEMBERS).json["items"]]
    barrier, statuses = threading.Barrier(2), []

    def leave(user_id: int) -> None:
        barrier.wait()
        statuses.append(acme.delete(f"{MEMBERS}/{user_id}").status_code)

    threads = [threading.Thread(target=leave, args=(user_id,)) for user_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(statuses) == [204, 409]
    assert world.session.scalars(select(Membership.role)).all() == ["owner"]


def test_of_many_who_add_the_same_user_one_does(acme: ApiConsumer, world: World) -> None:
    make_user(world, "bob@acme.example")
    barrier, statuses = threading.Barrier(5), []

    def add() -> None:
        barrier.wait()
        statuses.append(acme.post(MEMBERS, json={"email": "bob@acme.example"}).status_code)

    threads = [threading.Thread(target=add) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(statuses) == [201] + [409] * 4
    assert world.used("seats") == 2


def test_of_many_writers_who_saw_the_same_one_wins(acme: ApiConsumer, world: World) -> None:
    bob = f"{MEMBERS}/{join(acme, world, 'bob@acme.example')}"
    seen = acme.get(bob).headers["ETag"]
    barrier, statuses = threading.Barrier(4), []

    def write(role: str) -> None:
        barrier.wait()
        statuses.append(acme.call("PATCH", bob, json={"role": role}, headers={"If-Match": seen}).status_code)

    threads = [threading.Thread(target=write, args=(role,)) for role in ("admin", "viewer", "admin", "owner")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(statuses) == [200, 412, 412, 412]
    assert acme.call("DELETE", bob, headers={"If-Match": seen}).status_code == 412
    assert acme.call("DELETE", bob, headers={"If-Match": "*"}).status_code == 204
