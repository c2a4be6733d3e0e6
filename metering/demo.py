"""The demo customer of `make run`: a user who can log in and an API key that works at once. Refused in production."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.accounts.customers import create_customer
from metering.accounts.keys import DEFAULT_SCOPES, create_key
from metering.accounts.passwords import verify_password
from metering.accounts.users import add_member, create_user
from metering.errors import ConfigurationError
from metering.ids import key_digest
from metering.models import ApiKey, Customer, User
from metering.runtime import Runtime
from metering.store import inbox
from metering.store.state import send_unsent

CUSTOMER = "demo"
EMAIL = "demo@example.com"
PASSWORD = "demo-password"  # noqa: S105 - printed by `make run`, refused in production


@dataclass(frozen=True, slots=True)
class Demo:
    email: str
    password: str
    api_key: str


def make_demo(runtime: Runtime, home: Path) -> Demo:
    """The demo of this installation, made where it is missing. Its key is kept in `home`, readable by us alone."""
    path = home / "demo.json"
    with runtime.transaction() as session:
        customer = _customer(runtime, session)
        api_key = _stored_key(session, path) or _new_key(runtime, session, customer)
    with runtime.transaction() as session:
        send_unsent(session, runtime.redis, runtime.catalog, now=runtime.clock())
        window = runtime.settings.identity_window_seconds
        inbox.feed(session, runtime.intake, now=runtime.clock(), identity_window_seconds=window)
    demo = Demo(EMAIL, PASSWORD, api_key)
    with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
        json.dump(asdict(demo), file)
    return demo


def refuse_demo(session: Session) -> None:
    """Raises ConfigurationError when anybody could log in with the demo's password."""
    user = session.scalars(select(User).where(User.email == EMAIL)).one_or_none()
    if user is not None and verify_password(PASSWORD, user.password_hash):
        raise ConfigurationError(f"{EMAIL} can log in with the demo's password: remove it before running in production")


def _customer(runtime: Runtime, session: Session) -> Customer:
    customer = session.scalars(select(Customer).where(Customer.key == CUSTOMER)).one_or_none()
    if customer is not None:
        return customer
    customer = create_customer(
        session,
        runtime.catalog,
        key=CUSTOMER,
        name="Demo Inc.",
        plan="free" if "free" in runtime.catalog.plans else next(iter(runtime.catalog.plans)),
        partitions=runtime.settings.partitions,
        now=runtime.clock(),
    )
    user = create_user(session, email=EMAIL, password=PASSWORD, name="Demo User", operator=True)
    # The state must be in Redis before the first seat can be taken.
    send_unsent(session, runtime.redis, runtime.catalog, now=runtime.clock())
    add_member(session, runtime.intake, runtime.catalog, customer, user, "owner", now=runtime.clock())
    return customer


def _stored_key(session: Session, path: Path) -> str | None:
    if not path.exists():
        return None
    secret: str = json.loads(path.read_text())["api_key"]
    known = session.scalar(select(ApiKey.id).where(ApiKey.digest == key_digest(secret), ApiKey.revoked_at.is_(None)))
    return secret if known is not None else None


def _new_key(runtime: Runtime, session: Session, customer: Customer) -> str:
    _, made = create_key(session, customer, name="Demo key", scopes=DEFAULT_SCOPES, now=runtime.clock())
    return made.secret
