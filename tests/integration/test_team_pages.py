"""Team, settings and keys on the pages: who may do what, and what becomes of an invitation."""

import re
import threading

import pytest
from flask import Flask
from sqlalchemy import func, select

from metering.models import ApiKey, AuditEntry, Customer, Membership, User
from metering.service import Metering
from tests.factories.mails import link_to, mails_to
from tests.factories.people import PASSWORD, Visitor, make_user
from tests.factories.world import World

NEW = "new@acme.example"
TEAM = "/c/acme/team"
SECRET = re.compile(r'id="new-key">(mk_[^<]+)<')


@pytest.fixture
def acme(world: World) -> Customer:
    return world.customer("acme", "pro")


@pytest.fixture
def owner(app: Flask, world: World, acme: Customer) -> Visitor:
    return joined(app, world, acme, "owner")


def joined(app: Flask, world: World, customer: Customer, role: str) -> Visitor:
    email = f"{role}@acme.example"
    make_user(world, email, customer, role)
    return logged_in(app, email)


def logged_in(app: Flask, email: str) -> Visitor:
    visitor = Visitor.of(app)
    assert visitor.log_in(email).status_code == 303
    return visitor


def post(visitor: Visitor, action: str, **fields: object):
    """With the token of a form that everybody has: that of logging out."""
    return visitor.submit(TEAM, action, **fields)


def invite(visitor: Visitor, email: str = NEW, role: str = "member"):
    return post(visitor, f"{TEAM}/invitations", email=email, role=role)


def user_id(world: World, email: str) -> int:
    world.session.rollback()
    return world.session.scalars(select(User.id).where(User.email == email)).one()


def roles(world: World) -> dict[str, str]:
    world.session.rollback()
    query = select(User.email, Membership.role).join(Membership, Membership.user_id == User.id)
    return {row.email: row.role for row in world.session.execute(query)}


# -- invitations -------------------------------------------------------------------------------------------------------


def test_somebody_new_accepts_and_takes_a_seat(app, world, owner):
    assert invite(owner, " New@Acme.example ", "viewer").status_code == 303
    assert "1 of 10 seats used, 1 invited" in owner.open(TEAM).text
    assert world.used("seats") == 1
    link = link_to(world.session, NEW)
    visitor = Visitor.of(app)
    assert "invites you" in visitor.open(link).text

    answer = visitor.submit(link, link, name="Nell", password=PASSWORD)

    assert (answer.status_code, answer.location) == (303, "/c/acme/")
    assert visitor.open("/c/acme/").status_code == 200
    assert roles(world)[NEW] == "viewer"
    assert world.used("seats") == 2
    assert visitor.open(link).status_code == 404, "it works once"
    done = world.session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)).all()
    assert done == ["invitation.send", "member.join"]


def test_who_has_an_account_logs_in_and_joins(app, world, owner):
    make_user(world, NEW)
    invite(owner)
    link = link_to(world.session, NEW)
    visitor = Visitor.of(app)
    assert "Log in to join" in visitor.open(link).text
    answer = visitor.submit("/login", "/login", email=NEW, password=PASSWORD, next=link)
    assert answer.location == link
    assert f"Join as {NEW}" in visitor.open(link).text
    assert visitor.submit(link, link).location == "/c/acme/"
    assert roles(world)[NEW] == "member"


def test_an_invitation_expires_and_can_be_sent_again_and_withdrawn(app, world, owner):
    invite(owner)
    first, visitor = link_to(world.session, NEW), Visitor.of(app)
    number = re.search(r"invitations/(\d+)/resend", owner.open(TEAM).text)[1]
    world.advance(days=7)
    assert visitor.open(first).status_code == 404
    assert "Expired" in owner.open(TEAM).text

    post(owner, f"{TEAM}/invitations/{number}/resend")
    second = link_to(world.session, NEW)
    assert [visitor.open(link).status_code for link in (first, second)] == [404, 200]

    post(owner, f"{TEAM}/invitations/{number}/withdraw")
    assert visitor.open(second).status_code == 404
    assert invite(owner).status_code == 303, "and may be invited anew"


def test_without_a_seat_it_is_refused_clearly_and_the_link_keeps_working(app, world):
    acme = world.customer("acme", "free")
    owner = joined(app, world, acme, "owner")
    assert "1 of 1 seat used" in owner.open(TEAM).text
    assert "No seat is left on your plan." in owner.open(TEAM).text
    invite(owner)
    link, visitor = link_to(world.session, NEW), Visitor.of(app)

    answer = visitor.submit(link, link, name="Nell", password=PASSWORD)

    assert answer.status_code == 409
    assert "No seat is left on its plan." in answer.text
    world.session.rollback()
    assert world.session.scalar(select(func.count(User.id))) == 1
    assert visitor.open(link).status_code == 200


def test_of_two_who_accept_at_once_one_joins(app, world, owner, metering: Metering):
    for name in ("ann", "bob"):
        make_user(world, f"{name}@else.example")
    invite(owner)
    link = link_to(world.session, NEW)
    visitors = [logged_in(app, f"{name}@else.example") for name in ("ann", "bob")]
    tokens = [re.search(r'name="csrf_token" value="([^"]+)"', one.open(link).text)[1] for one in visitors]
    barrier, answers = threading.Barrier(2), []

    def accept(visitor: Visitor, token: str) -> None:
        barrier.wait()
        answers.append(visitor.client.post(link, data={"csrf_token": token}).status_code)

    threads = [threading.Thread(target=accept, args=pair) for pair in zip(visitors, tokens, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answers) == [303, 404]
    assert len(roles(world)) == 2


@pytest.mark.parametrize(
    ("email", "says"),
    [
        ("no address", "This is no email address."),
        ("owner@acme.example", "is a member already"),
        (NEW, "is invited already"),
    ],
)
def test_who_cannot_be_invited_is_named(world, owner, email, says):
    invite(owner)
    answer = invite(owner, email)
    assert answer.status_code == 422
    assert says in answer.text
    assert len(mails_to(world.session, NEW)) == 1


# -- who may do what ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["member", "viewer"])
def test_members_and_viewers_see_and_change_nothing(app, world, owner, acme, role):
    invite(owner)
    number = re.search(r"invitations/(\d+)/resend", owner.open(TEAM).text)[1]
    key, visitor = world.key(acme), joined(app, world, acme, role)
    world.session.rollback()
    key_id = world.session.scalars(select(ApiKey.id).where(ApiKey.prefix == key.prefix)).one()
    owner_id, before = user_id(world, "owner@acme.example"), roles(world)
    entries = world.session.scalar(select(func.count(AuditEntry.id)))

    for path in (TEAM, "/c/acme/settings", "/c/acme/keys"):
        page = visitor.open(path)
        assert page.status_code == 200
        assert f'action="{path}' not in page.text
    for action, fields in (
        (f"{TEAM}/invitations", {"email": "x@acme.example", "role": "viewer"}),
        (f"{TEAM}/invitations/{number}/resend", {}),
        (f"{TEAM}/invitations/{number}/withdraw", {}),
        (f"{TEAM}/{owner_id}/role", {"role": "viewer"}),
        (f"{TEAM}/{owner_id}/remove", {}),
        ("/c/acme/settings", {"name": "Mine", "timezone": "UTC"}),
        ("/c/acme/keys", {"name": "mine", "scopes": "meter"}),
        (f"/c/acme/keys/{key_id}/rotate", {"overlap": "0"}),
        (f"/c/acme/keys/{key_id}/revoke", {}),
    ):
        assert post(visitor, action, **fields).status_code == 403, action

    assert roles(world) == before
    assert world.session.scalar(select(func.count(AuditEntry.id))) == entries


def test_admins_manage_all_but_owners(app, world, owner, acme):
    admin, viewer = joined(app, world, acme, "admin"), joined(app, world, acme, "viewer")
    owner_id, viewer_id = user_id(world, "owner@acme.example"), user_id(world, "viewer@acme.example")
    assert viewer.open(TEAM).status_code == 200
    invite(owner, "heir@acme.example", "owner")
    number = re.search(r"invitations/(\d+)/resend", owner.open(TEAM).text)[1]

    assert invite(admin, NEW, "owner").status_code == 403
    assert post(admin, f"{TEAM}/invitations/{number}/resend").status_code == 403
    assert post(admin, f"{TEAM}/invitations/{number}/withdraw").status_code == 403
    assert post(admin, f"{TEAM}/{owner_id}/role", role="viewer").status_code == 403
    assert post(admin, f"{TEAM}/{owner_id}/remove").status_code == 403
    assert post(admin, f"{TEAM}/{viewer_id}/role", role="owner").status_code == 403

    assert post(admin, f"{TEAM}/{viewer_id}/role", role="member").status_code == 303
    assert roles(world)["viewer@acme.example"] == "member"
    assert post(owner, f"{TEAM}/{viewer_id}/role", role="owner").status_code == 303
    assert post(owner, f"{TEAM}/{user_id(world, 'admin@acme.example')}/remove").status_code == 303
    assert admin.open(TEAM).status_code == 404


def test_the_last_owner_stays(world, owner):
    number = user_id(world, "owner@acme.example")
    for action, fields in ((f"{TEAM}/{number}/remove", {}), (f"{TEAM}/{number}/role", {"role": "admin"})):
        assert post(owner, action, **fields).status_code == 303
        assert "The last owner stays." in owner.open(TEAM).text
    assert roles(world) == {"owner@acme.example": "owner"}


# -- settings ----------------------------------------------------------------------------------------------------------


def test_a_name_and_a_time_zone_are_changed_and_written_down(world, owner):
    answer = post(owner, "/c/acme/settings", name="Acme Robotics", timezone="Europe/Berlin")
    assert answer.status_code == 303
    page = owner.open("/c/acme/settings").text
    assert "Acme Robotics" in page
    assert "13:00 CET" in page
    assert "USD. All plans are billed in it" in page
    entry = world.session.scalars(select(AuditEntry)).one()
    assert (entry.actor, entry.action) == ("user:owner@acme.example", "customer.change")
    assert entry.detail == {"name": "Acme Robotics", "timezone": "Europe/Berlin"}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"name": "Acme", "timezone": "Mars/Base"}, "There is no such time zone."),
        ({"name": "", "timezone": "UTC"}, "Enter a name."),
        ({"name": "\u202e", "timezone": "UTC"}, "Plain characters only."),
    ],
)
def test_wrong_settings_are_named_and_nothing_is_changed(world, owner, fields, says):
    answer = post(owner, "/c/acme/settings", **fields)
    assert answer.status_code == 422
    assert says in answer.text
    assert world.session.scalars(select(AuditEntry)).all() == []


# -- keys --------------------------------------------------------------------------------------------------------------


def test_a_key_says_who_made_it_and_is_replaced_with_an_overlap(app, world, owner):
    first = SECRET.search(owner.submit("/c/acme/keys", "/c/acme/keys", name="web", scopes="meter").text)[1]
    page = owner.open("/c/acme/keys").text
    assert "by owner<wbr>@acme.<wbr>example" in page
    assert first not in page
    number = re.search(r"/keys/(\d+)/rotate", page)[1]

    answer = owner.submit("/c/acme/keys", f"/c/acme/keys/{number}/rotate", overlap="3600")

    second = SECRET.search(answer.text)[1]
    assert "Works until Nov 10, 2026, 13:00 UTC" in answer.text
    assert [called(app, key) for key in (first, second)] == [200, 200]
    again = owner.submit("/c/acme/keys", f"/c/acme/keys/{number}/rotate", overlap="0")
    assert again.status_code == 303
    world.advance(hours=1)
    assert [called(app, key) for key in (first, second)] == [401, 200]
    assert "Replaced" in owner.open("/c/acme/keys").text
    done = world.session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)).all()
    assert done == ["key.create", "key.rotate"]


def called(app: Flask, key: str) -> int:
    answer = app.test_client().get("/api/v1/sample/ping", headers={"Authorization": f"Bearer {key}"})
    return answer.status_code
