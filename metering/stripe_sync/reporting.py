"""One round of reporting: what is owed becomes rows, and rows are sent. What the RQ job and the command run.

With the stand-in, which is for development, customers are made there on demand and hours are reported while they are
still open, so that a call shows up within the minute; real Stripe gets closed hours of customers it knows.
"""

import os
from collections import Counter
from dataclasses import asdict
from functools import lru_cache

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.errors import ConfigurationError
from metering.models import Customer, StripeMeter
from metering.runtime import Runtime
from metering.settings import Settings
from metering.stripe_sync.gateway import STANDIN, StripeApi, connect
from metering.stripe_sync.ledger import forget_old_changes, ledger_status, owe
from metering.stripe_sync.meters import find_meters, link_meters
from metering.stripe_sync.sender import SendReport, send_due
from metering.stripe_sync.units import units_of

SENT_AT_ONCE = 1_000
OPEN_HOURS_TOO = -3600.0
"""A settling delay that closes an hour at its start."""

log = structlog.get_logger("metering.stripe")

_linked: set[str] = set()


def report(runtime: Runtime, *, open_hours: bool = False) -> SendReport:
    """Owe, then send; nothing happens with METERING_STRIPE=off.

    Raises:
        ConfigurationError: the key or a meter id is wrong. StripeFailed: Stripe is away; everything waits.
    """
    settings = runtime.settings
    if settings.stripe == "off":
        return SendReport()
    gateway = gateway_for(settings)
    is_standin = gateway.account == STANDIN
    if is_standin:
        _make_customers(runtime, gateway)
    if is_standin or gateway.account not in _linked:
        _link_meters(runtime, gateway, create=is_standin)
    with runtime.transaction() as session:
        forget_old_changes(session, now=runtime.clock())
    delay = OPEN_HOURS_TOO if open_hours or is_standin else settings.settle_delay_seconds
    while _owe_some(runtime, gateway.account, delay):
        pass
    sent = send_due(runtime.sessions, gateway, clock=runtime.clock, limit=SENT_AT_ONCE)
    if sent.parked or sent.stopped:
        log.warning("stripe_report", **asdict(sent))
    return sent


def stripe_status(runtime: Runtime, session: Session) -> dict[str, float]:
    """Figures for `status`, added up over the accounts that were ever linked; Stripe itself is not asked."""
    figures: Counter[str] = Counter()
    for account in session.scalars(select(StripeMeter.account).distinct()):
        status = ledger_status(session, account, runtime.clock())
        figures.update({f"stripe_{name}": float(value or 0) for name, value in asdict(status).items()})
    return dict(figures)


def gateway_for(settings: Settings) -> StripeApi:
    """This process's connection to Stripe. Raises ConfigurationError, StripeFailed."""
    key = settings.stripe_api_key
    if key is None:
        raise ConfigurationError("STRIPE_API_KEY is not set")
    return _connected(
        key.get_secret_value(), settings.stripe == "standin", settings.stripe_api_base, settings.stripe_account_id
    )


@lru_cache(maxsize=4)
def _connected(key: str, standin: bool, api_base: str | None, account_id: str | None) -> StripeApi:
    return connect(key, standin=standin, api_base=api_base, account_id=account_id)


def _link_meters(runtime: Runtime, gateway: StripeApi, *, create: bool) -> None:
    """Once a process: which of Stripe's meters stand for ours changes with the environment only.

    Meters of the catalog file alone are billed.
    """
    meters = find_meters(gateway, runtime.file_catalog, os.environ, create=create)
    with runtime.transaction() as session:
        link_meters(session, gateway.account, meters, units_of(runtime.file_catalog))
    _linked.add(gateway.account)


def _owe_some(runtime: Runtime, account: str, settle_seconds: float) -> int:
    with runtime.transaction() as session:
        return owe(session, account, now=runtime.clock(), settle_seconds=settle_seconds)


def _make_customers(runtime: Runtime, gateway: StripeApi) -> None:
    """Give customers that have none an id of the stand-in's."""
    with runtime.transaction() as session:
        unknown = session.execute(
            select(Customer.id, Customer.key, Customer.name).where(Customer.stripe_customer_id.is_(None))
        ).all()
    for customer_id, key, name in unknown:
        stripe_id = gateway.ensure_customer(key, name)
        with runtime.transaction() as session:
            session.get_one(Customer, customer_id).stripe_customer_id = stripe_id
