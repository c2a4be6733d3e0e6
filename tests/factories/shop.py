"""A product that sells its plans at the stand-in: served over HTTP, so that webhooks really come in."""

import re
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from html import unescape
from math import ceil
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from flask import Flask
from sqlalchemy import Engine
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from metering.models import Customer, Membership, StripeEvent
from metering.stripe_sync.processing import process_due
from metering.stripe_sync.push.run import look, push
from tests.factories.ledger import Books
from tests.factories.people import Visitor, make_user
from tests.factories.standin import StandinProcess
from tests.factories.webhooks import SECRET, THIN_SECRET
from tests.factories.world import World

PATIENCE_SECONDS = 20


class Served:
    """An app of ours on a port of its own."""

    def __init__(self, app: Flask) -> None:
        self._server = make_server("127.0.0.1", 0, app, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def announce_to(standin: StandinProcess, url: str) -> None:
    """Let the stand-in deliver its events to the app at `url`."""
    for path, payload, secret in (("stripe", "snapshot", SECRET), ("stripe/thin", "thin", THIN_SECRET)):
        standin.set("webhooks/destinations", url=f"{url}/webhooks/{path}", payload=payload, secret=secret)


@dataclass
class Shop:
    """The catalog is pushed; webhooks are held back until `deliver`; acme's owner stands at the pages."""

    app: Flask
    world: World
    standin: StandinProcess
    engine: Engine
    url: str

    def open(self) -> "Shop":
        self.books = Books(self.world, self.standin, self.engine)
        runtime = self.app.extensions["metering"].runtime
        push(runtime, look(runtime), actor="test")
        self.standin.set("webhooks", hold=True)
        announce_to(self.standin, self.url)
        self.customer = self.world.customer("acme", "free")
        make_user(self.world, "owner@acme.example", self.customer)
        self.log_in()
        return self

    def log_in(self) -> None:
        """Sessions end by themselves: after weeks the owner comes again."""
        self.owner = Visitor.of(self.app)
        self.owner.log_in("owner@acme.example")

    @property
    def client(self) -> Any:
        return self.standin.client()

    def page(self) -> TestResponse:
        return self.owner.open("/c/acme/plan")

    def press(self, action: str, **fields: str) -> TestResponse:
        """A button of the plan page."""
        answer = self.owner.submit("/c/acme/plan", f"/c/acme/plan/{action}", **fields)
        self.catch_up()
        return answer

    def catch_up(self) -> None:
        """The stand-in's clock goes on by itself: what happened there lies before our now."""
        now = datetime.fromtimestamp(ceil(self.standin.inspect("clock")["now"]), UTC)
        self.world.now = max(self.world.now, now)

    def buy(self, plan: str = "pro") -> str:
        """Through Stripe's checkout; where that leads back to."""
        leads = self.press("checkout", plan=plan)
        assert leads.status_code == 303, leads.text
        assert leads.location.startswith(self.standin.url), leads.location
        return self.pay(leads.location)

    def pay(self, address: str, button: str = "Pay") -> str:
        """Press a button on a page of Stripe's."""
        page = requests.get(address, timeout=PATIENCE_SECONDS)
        for form in re.findall(r"<form.*?</form>", page.text, re.DOTALL):
            if button in unescape(form):
                action = re.search(r'action="([^"]+)"', form)
                target = urljoin(page.url, unescape(action[1])) if action else page.url
                answer = requests.post(target, timeout=PATIENCE_SECONDS, allow_redirects=False)
                self.catch_up()
                return answer.headers["Location"]
        raise AssertionError(f"no button {button}: {page.text}")

    def double(self) -> list[str]:
        """Make a second subscription at Stripe by hand, like the one that runs; the ids of both."""
        first = self.subscription()
        items = [
            {"price": one.price.id} | ({} if one.price.recurring.usage_type == "metered" else {"quantity": 1})
            for one in first["items"].data
        ]
        wanted = {"customer": first.customer, "items": items, "metadata": {"metering_plan": "pro"}}
        second = self.client.v1.subscriptions.create(wanted)
        self.deliver()
        return [first.id, second.id]

    def deliver(self, **how: Any) -> list[str]:
        """All webhooks that wait, and what follows from them half a minute later; the types of what was stored."""
        self.catch_up()
        self.world.advance(seconds=30)
        self.books.tell_time()
        sent = self.standin.set("webhooks/deliver", **how)["deliveries"]
        assert all(one["status"] == "delivered" for one in sent), sent
        process_due(self.app.extensions["metering"].runtime)
        self.world.session.expire_all()
        self.world.send()
        events = self.world.session.query(StripeEvent).order_by(StripeEvent.id)
        found = events.execution_options(populate_existing=True).all()
        assert [(one.type, one.reason) for one in found if one.state in ("waiting", "failed")] == []
        return [one.type for one in found]

    def acme(self) -> Customer:
        """As it is stored now."""
        self.world.session.refresh(self.customer)
        self.world.session.commit()
        return self.customer

    def colleague(self, role: str) -> Visitor:
        """Somebody else of acme's, who takes no seat."""
        email = f"{role}@acme.example"
        user = make_user(self.world, email)
        self.world.session.add(Membership(customer_id=self.customer.id, user_id=user.id, role=role))
        self.world.session.commit()
        visitor = Visitor.of(self.app)
        visitor.log_in(email)
        return visitor

    def subscription(self) -> Any:
        """The latest, as it stands at Stripe."""
        return self.client.v1.subscriptions.list({"status": "all", "limit": 1}).data[0]

    def spans(self) -> list[tuple[str, str, str]]:
        """The customer's periods as text: start, end, plan."""
        return [
            (f"{one.starts_at:%Y-%m-%dT%H:%M}", f"{one.ends_at:%Y-%m-%dT%H:%M}", one.plan)
            for one in self.world.periods()
        ]

    def plan(self) -> str:
        """What the intake goes by."""
        return self.world.intake.standing("acme", ["api_call"], now=self.world.now).plan

    @staticmethod
    def path(address: str) -> str:
        parts = urlsplit(address)
        return f"{parts.path}?{parts.query}"
