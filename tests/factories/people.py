"""People in front of the pages: users of a customer, and a browser without scripts that each of them holds."""

import re
from dataclasses import dataclass

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from metering.accounts.users import add_member, create_user
from metering.models import Customer, User
from tests.factories.world import World

PASSWORD = "a password for tests"
TOKEN = re.compile(r'name="csrf_token" value="([^"]+)"')


def make_user(
    world: World, email: str, customer: Customer | None = None, role: str = "owner", *, operator: bool = False
) -> User:
    user = create_user(world.session, email=email, password=PASSWORD, name=email.split("@")[0], operator=operator)
    if customer is not None:
        add_member(world.session, world.intake, world.catalog, customer, user, role, now=world.now)
    world.session.commit()
    return user


@dataclass
class Visitor:
    """Follows links and fills in forms as a browser does: a form is sent with the token of the page it stands on."""

    client: FlaskClient

    @classmethod
    def of(cls, app: Flask) -> "Visitor":
        return cls(app.test_client())

    def log_in(self, email: str, password: str = PASSWORD, **fields: str) -> TestResponse:
        return self.submit("/login", "/login", email=email, password=password, **fields)

    def open(self, path: str, **headers: str) -> TestResponse:
        return self.client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def partial(self, path: str) -> TestResponse:
        """As htmx asks."""
        return self.client.get(path, headers={"HX-Request": "true"})

    def submit(self, page: str, action: str, **fields: object) -> TestResponse:
        found = TOKEN.search(self.client.get(page).text)
        assert found, f"there is no form on {page}"
        return self.client.post(action, data={"csrf_token": found[1], **fields})
