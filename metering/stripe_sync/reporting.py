"""One round of reporting: what is owed becomes rows, and rows are sent. What the RQ job and the command run.

With the stand-in, which is for development, customers are made there on demand and hours are reported while they are
still open, so that a call shows up within the minute; real Stripe gets closed hours of customers it knows.
"""

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.errors import ConfigurationError
from metering.models import Customer, StripeMeter
from metering.runtime import Runtime
from metering.settings import Settings
from metering.stripe_sync.gateway import STANDIN, Fate, KeyRefused, StripeApi, StripeFailed, connect
from metering.stripe_sync.history import last_run, standing_differences
from metering.stripe_sync.ledger import forget_old_changes, ledger_status, owe
from metering.stripe_sync.meters import find_meters, ids_from, link_meters, links_of
from metering.stripe_sync.modes import refuse_foreign_ids
from metering.stripe_sync.sender import SendReport, send_due
from metering.stripe_sync.stops import note_stop, stop_of
from metering.stripe_sync.throttle import Kind, SharedThrottle
from metering.stripe_sync.units import units_of

SENT_AT_ONCE = 100_000
RUN_SECONDS = 25.0
"""The job comes again every half minute, and shares its process with others."""

OPEN_HOURS_TOO = -3600.0
"""A settling delay that closes an hour at its start."""

log = structlog.get_logger("metering.stripe")

_linked: set[str] = set()
_checked: set[str] = set()


def report(runtime: Runtime, *, open_hours: bool = False) -> SendReport:
    """Owe, then send; nothing happens with METERING_STRIPE=off, nor with a key that Stripe refused.

    Raises:
        ConfigurationError: a meter id is wrong. StripeFailed: Stripe is away; everything waits.
    """
    settings = runtime.settings
    if settings.stripe == "off":
        return SendReport()
    with runtime.transaction() as session:
        stopped = stop_of(session, settings)
    if stopped:
        return SendReport(stopped=stopped.message, needs_operator=True)
    try:
        sent = _report(runtime, open_hours)
    except KeyRefused as error:
        sent = SendReport(stopped=error.message, needs_operator=True)
    except StripeFailed as error:
        if error.outcome.fate is not Fate.STOP:
            raise
        sent = SendReport(stopped=error.outcome.reason, needs_operator=True)
    if sent.needs_operator and sent.stopped:
        with runtime.transaction() as session:
            note_stop(session, settings, sent.stopped, runtime.clock())
        log.error("stripe_stopped", reason=sent.stopped)
    elif sent.parked or sent.stopped:
        log.warning("stripe_report", **asdict(sent))
    return sent


def check_start(runtime: Runtime) -> None:
    """Refuse to start with ids that are not of the key's own account and mode.

    A key that Stripe refuses, and Stripe away, are no reasons: other work goes on, and reporting tells of both.

    Raises:
        ConfigurationError: which id it is, and where it was named.
    """
    if runtime.settings.stripe == "off":
        return
    try:
        _check_ids(runtime, gateway_for(runtime.settings))
    except (KeyRefused, StripeFailed) as error:
        log.warning("stripe_unavailable", detail=error.message)


def _check_ids(runtime: Runtime, gateway: StripeApi) -> None:
    """Once a process. Raises ConfigurationError, StripeFailed."""
    if gateway.account == STANDIN or gateway.account in _checked:
        return
    ids = {f"the Stripe meter for {key}": id for key, id in ids_from(os.environ, runtime.file_catalog).items()}
    with runtime.sessions() as session:
        refuse_foreign_ids(session, gateway, ids)
    _checked.add(gateway.account)


def _report(runtime: Runtime, open_hours: bool) -> SendReport:
    settings = runtime.settings
    gateway = gateway_for(settings)
    _check_ids(runtime, gateway)
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
    return send_due(
        runtime.sessions,
        gateway,
        clock=runtime.clock,
        limit=SENT_AT_ONCE,
        throttle=throttle_for(runtime, gateway.account),
        parallel=settings.stripe_senders,
        summary_delay_seconds=summary_delay_seconds(settings),
        enough=_after(RUN_SECONDS),
    )


def throttle_for(runtime: Runtime, account: str) -> SharedThrottle:
    """The rates at which all workers together may call Stripe for this account."""
    settings = runtime.settings
    asked: dict[Kind, float | None] = {
        "events": settings.stripe_events_per_second,
        "calls": settings.stripe_calls_per_second,
    }
    return SharedThrottle(runtime.queue_redis, account, {kind: rate for kind, rate in asked.items() if rate})


def summary_delay_seconds(settings: Settings) -> float:
    """How long an accepted row may take to show in Stripe's summaries, which are eventually consistent."""
    if settings.stripe_summary_delay_seconds is not None:
        return settings.stripe_summary_delay_seconds
    return 0.0 if settings.stripe == "standin" else 600.0


def _after(seconds: float) -> Callable[[], bool]:
    ends = time.monotonic() + seconds
    return lambda: time.monotonic() >= ends


def stripe_status(runtime: Runtime, session: Session) -> dict[str, float]:
    """Figures for `status`, added up over the accounts that were ever linked; Stripe itself is not asked."""
    figures: Counter[str] = Counter()
    for account in session.scalars(select(StripeMeter.account).distinct()):
        status = ledger_status(session, runtime.catalog, account, runtime.clock())
        figures.update({f"stripe_{name}": float(value or 0) for name, value in asdict(status).items()})
    if runtime.settings.stripe == "off":
        return dict(figures)
    return {
        **figures,
        "stripe_stopped": float(stop_of(session, runtime.settings) is not None),
        **_comparisons(session, runtime),
    }


def _comparisons(session: Session, runtime: Runtime) -> dict[str, float]:
    """Nothing until something was compared."""
    differences, figures = standing_differences(session), {}
    run = last_run(session)
    if run is not None and run.finished_at is not None:
        figures = {
            "stripe_reconciled_seconds_ago": (runtime.clock() - run.finished_at).total_seconds(),
            "stripe_series_compared": float(run.compared),
        }
    elif not differences:
        return {}
    return {
        **figures,
        "stripe_differences": float(len(differences)),
        "stripe_differences_for_operator": float(sum(one.needs_operator for one in differences)),
    }


def gateway_for(settings: Settings) -> StripeApi:
    """This process's connection to Stripe. Raises ConfigurationError, StripeFailed."""
    key = settings.stripe_api_key
    if key is None:
        raise ConfigurationError("STRIPE_API_KEY is not set")
    return _connected(
        key.get_secret_value(), settings.stripe == "standin", settings.stripe_api_base, settings.stripe_account_id
    )


def paced_gateway_for(runtime: Runtime) -> StripeApi:
    """The same, with every call under the rate that all workers share. For runs of many calls that are not usage."""
    settings, account = runtime.settings, gateway_for(runtime.settings).account
    assert settings.stripe_api_key is not None, "gateway_for has looked at it"
    throttle = throttle_for(runtime, account)

    def wait_for_turn() -> None:
        while not throttle.take("calls"):
            log.info("stripe_throttled")

    return connect(
        settings.stripe_api_key.get_secret_value(),
        standin=account == STANDIN,
        api_base=settings.stripe_api_base,
        account_id=account.partition(":")[2],
        wait_for_turn=wait_for_turn,
    )


@lru_cache(maxsize=4)
def _connected(key: str, standin: bool, api_base: str | None, account_id: str | None) -> StripeApi:
    return connect(key, standin=standin, api_base=api_base, account_id=account_id)


def _link_meters(runtime: Runtime, gateway: StripeApi, *, create: bool) -> None:
    """Once a process: which of Stripe's meters stand for ours changes with the environment only.

    Meters of the catalog file alone are billed.
    """
    with runtime.transaction() as session:
        linked = {link.stripe_id for link in links_of(session, gateway.account).values()}
    meters = find_meters(gateway, runtime.file_catalog, os.environ, create=create, linked=linked)
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
