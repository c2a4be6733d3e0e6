"""Two customers that have what the API's examples and the pages ask for, and everybody who may come to see it.

What is demo's carries marks that can't be anybody else's: an answer to a stranger that holds one has told too much.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from metering import create_app
from metering.accounts.customers import change_plan
from metering.accounts.invitations import invite
from metering.accounts.keys import SCOPES, create_key, revoke_key
from metering.accounts.passwords import hash_password
from metering.accounts.sessions import open_session
from metering.accounts.users import add_member, remove_member
from metering.api.openapi import Route
from metering.api.operation import Answered, Content
from metering.api.parameters import flat_query
from metering.api.shapes import EXAMPLE_CUSTOMER
from metering.catalog import Meter
from metering.models import Alert, ApiKey, Customer, Membership, User
from metering.notify.deliveries import ping
from metering.notify.endpoints import create_endpoint
from metering.problems import to_json
from metering.reservations import reserve
from metering.service import Metering
from metering.settings import load_settings
from metering.store.meters import create_meter
from metering.store.state import touch
from tests.factories.callers import keep
from tests.factories.people import PASSWORD
from tests.factories.subscriptions import invoiced
from tests.factories.world import World

CUSTOMER, STRANGER = EXAMPLE_CUSTOMER, "bravo"
PIXELS = Meter(key="image_pixels", name="Image pixels", unit="pixel", aggregation="sum", event_type="image")
TOKENS = 87_654
MARKS = ("Planted Rocketry", "planted-key", "87654", "87,654", "87.7K", "@planted.example", "planted bytes")


@cache
def password_hash() -> str:
    """Of everybody's password; made once, because that is meant to take long."""
    return hash_password(PASSWORD)


def unserved_app() -> Flask:
    """The product without servers: for its URL map, before there is a test to serve it for."""
    settings = load_settings(
        env="development",
        home=Path("nowhere"),
        database_url="postgresql+psycopg://nobody@127.0.0.1:1/none",
        redis_url="redis://127.0.0.1:1/0",
    )
    return create_app(settings)


@dataclass
class Seeds:
    """`keys`: secrets by who carries them. `ids`: values for parameters of paths that only the database can tell."""

    app: Flask
    world: World
    keys: dict[str, str] = field(default_factory=dict)
    users: dict[str, User] = field(default_factory=dict)
    ids: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def sow(cls, app: Flask, world: World) -> "Seeds":
        seeds = cls(app, world)
        demo, bravo = world.customer(CUSTOMER, "pro"), world.customer(STRANGER, "pro")
        demo.name = "Planted Rocketry"
        seeds._people(demo, bravo)
        seeds._keys(demo, bravo)
        world.send()
        seeds._usage()
        seeds._webhook(demo)
        seeds._alert(demo)
        return seeds

    def client(self, user: str | None = None) -> FlaskClient:
        """A browser; with the session of a user, if one is named."""
        client = self.app.test_client()
        if user is not None:
            self._open_session(self.users[user])
            with client.session_transaction() as session:
                session["_user_id"], session["_fresh"] = self.users[user].get_id(), True
        return client

    def _open_session(self, user: User) -> None:
        """One for all browsers of a user."""
        if not user.session_id:
            open_session(self.world.session, user, address="192.0.2.1", user_agent="a test", now=self.world.now)
            self.world.session.commit()

    def key_without(self, scope: str) -> str:
        """One of demo's that carries every scope but this."""
        return self._key(self.world.find(CUSTOMER), [one for one in SCOPES if one != scope])[1]

    def _people(self, demo: Customer, bravo: Customer) -> None:
        world = self.world
        people = (("owner", demo), ("colleague", demo), ("stranger", bravo), ("operator", None), ("grace", None))
        for name, customer in people:
            host = "planted.example" if customer is demo else "example.org"
            user = User(email=f"{name}@{host}", name=name, password_hash=password_hash(), operator=name == "operator")
            world.session.add(user)
            world.session.flush()
            if customer is not None:
                role = "member" if name == "colleague" else "owner"
                add_member(world.session, world.intake, world.catalog, customer, user, role, now=world.now)
            self.users[name] = user
        world.session.commit()
        self.ids |= {"customer_key": CUSTOMER, "user_id": self.users["colleague"].id}
        owner, session = self.users["owner"], world.session
        self.ids["session_id"] = open_session(session, owner, address="192.0.2.2", user_agent="", now=world.now).id
        owner.session_id = 0
        invited, _ = invite(session, demo, "new@planted.example", "viewer", by=owner.email, now=world.now)
        self.ids["invitation_id"] = invited.id
        session.commit()

    def _keys(self, demo: Customer, bravo: Customer) -> None:
        for name, customer in (("owner", demo), ("stranger", bravo), ("operator", None)):
            self.keys[name] = self._key(customer, SCOPES)[1]
        revoked, self.keys["revoked"] = self._key(demo, SCOPES)
        revoke_key(self.world.session, demo, revoked.id, now=self.world.now)
        self.ids["key_id"] = self._key(demo, ["meter"])[0].id
        self.ids["operator_key_id"] = self._key(None, ["usage:read"])[0].id
        self.ids["invoice_id"] = invoiced(self.world.session, demo, self.world.now).id
        self.world.session.commit()

    def _key(self, customer: Customer | None, scopes: Any) -> tuple[ApiKey, str]:
        name = "planted-key" if customer and customer.key == CUSTOMER else "another"
        session, now = self.world.session, self.world.now
        key, made = create_key(session, customer, name=name, scopes=scopes, now=now, by_operator=True)
        session.commit()
        self.world.send()
        return key, made.secret

    def _webhook(self, demo: Customer) -> None:
        session, now = self.world.session, self.world.now
        url = "https://hooks.planted.example/"
        endpoint = create_endpoint(session, demo, url=url, events=["alert.crossed"], now=now)
        self.ids |= {"endpoint_id": endpoint.id, "delivery_id": ping(session, endpoint, now=now).id}
        session.commit()

    def _alert(self, demo: Customer) -> None:
        session, now = self.world.session, self.world.now
        (period, *_) = self.world.periods(CUSTOMER)
        bill = {"kind": "money", "value": 40, "total": 49, "currency": "USD"}
        alert = Alert(customer_id=demo.id, period_id=period.id, crossed_at=now, **bill)
        session.add(alert)
        session.commit()
        self.ids["alert_id"] = alert.id

    def _usage(self) -> None:
        world = self.world
        world.record(
            world.event(CUSTOMER, quantity=1_234),
            world.event(CUSTOMER, meter="tokens", quantity=TOKENS, properties={"model": "large"}),
            world.event(CUSTOMER, meter="messages", quantity=37),
        )
        create_meter(world.session, self.metering.runtime.file_catalog, PIXELS, now=world.now)
        world.session.commit()
        self.ids |= {"name": "hello.txt", "id_or_slug": PIXELS.key}
        self._file()
        self._event()
        self._reservation()

    @property
    def metering(self) -> Metering:
        metering: Metering = self.app.extensions["metering"]
        return metering

    def restore(self, method: str, parameters: Collection[str]) -> None:
        """Put back what requests may have changed or used up, where the next one, of this kind, needs it."""
        self._customer()
        if method == "GET":
            return
        if "name" in parameters:
            self._file()
        if "event_id" in parameters:
            self._event()
        if "reservation" in parameters:
            self._reservation()
        if "key_id" in parameters:
            self.ids["key_id"] = self._key(self.world.find(CUSTOMER), ["meter"])[0].id
        if "operator_key_id" in parameters:
            self.ids["operator_key_id"] = self._key(None, ["usage:read"])[0].id
        self._members()

    def _customer(self) -> None:
        session = self.world.session
        session.expire_all()
        demo = self.world.find(CUSTOMER)
        if demo.status != "active" or demo.plan != "pro":
            demo.status = "active"
            change_plan(session, self.metering.settings, self.world.catalog, demo, "pro", now=self.world.now)
            session.flush()
            touch(session, [demo.id])
        session.commit()
        self.world.send()

    def _members(self) -> None:
        """The owner and the colleague, who may have any role; nobody else."""
        world, demo = self.world, self.world.find(CUSTOMER)
        query = select(Membership).where(Membership.customer_id == demo.id)
        people = {member.user_id: member for member in world.session.scalars(query)}
        missing = [name for name in ("owner", "colleague") if self.users[name].id not in people]
        for name in missing:
            role = "owner" if name == "owner" else "member"
            add_member(world.session, world.intake, world.catalog, demo, self.users[name], role, now=world.now)
        if "owner" not in missing:
            people[self.users["owner"].id].role = "owner"
        grace = self.users["grace"].id
        if grace in people:
            remove_member(world.session, world.intake, world.catalog, demo, grace, now=world.now)
        world.session.commit()
        if missing or grace in people:
            keep(self.metering)
            world.advance(seconds=world.lease_seconds + 1)  # a seat is held until its lease runs out

    def _file(self) -> None:
        self.as_owner("PUT", "/api/v1/sample/files/hello.txt", data=b"planted bytes")

    def _event(self) -> None:
        event = self.world.event(CUSTOMER, meter="messages", quantity=1, properties={"file": "planted bytes"})
        self.world.record(event)
        self.ids["event_id"] = event.digest
        keep(self.metering)

    def _reservation(self) -> None:
        held = reserve(self.metering, CUSTOMER, {"tokens": 50, "api_call": 1}, key_id=1, lease_seconds=3600)
        self.ids["reservation"] = held.token

    def as_owner(self, method: str, path: str, **options: Any) -> None:
        headers = {"Authorization": f"Bearer {self.keys['owner']}"}
        answer = self.app.test_client().open(path, method=method, headers=headers, **options)
        assert answer.status_code < 300, answer.text


def path_values(route: Route, ids: Mapping[str, Any]) -> dict[str, Any]:
    """The values of an example's path. What another request would have made or answered comes from `ids`."""
    example = route.declared.example
    made = {name for name in route.template.schemas if example.after or isinstance(example.path.get(name), Answered)}
    return {**example.path, **{name: ids[name] for name in made if name in ids}}


def example_request(route: Route, ids: Mapping[str, Any]) -> dict[str, Any]:
    """What `client.open` takes to send an example."""
    declared, example = route.declared, route.declared.example
    path = route.template.path
    for name, value in path_values(route, ids).items():
        path = path.replace(f"{{{name}}}", str(value))
    request: dict[str, Any] = {
        "path": path,
        "method": route.method,
        "query_string": flat_query(example.query),
        "headers": dict(example.headers),
    }
    if example.body is not None:
        media = next(iter(declared.body.schemas)) if isinstance(declared.body, Content) else "application/json"
        raw = isinstance(example.body, str | bytes)
        request["content_type"] = "application/octet-stream" if media == "*/*" else media
        request["data"] = example.body if raw else to_json(example.body)
    return request
