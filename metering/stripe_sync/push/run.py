"""A push: look, and then, under a lock, look again and act. What `flask metering stripe push` runs.

Always holds: the ids are kept in one transaction at the end, so they speak of a whole catalog or of the one before. A
push that ends before leaves everything at Stripe to be found by the next one, and what it did in the audit log.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from sqlalchemy import text
from sqlalchemy.orm import Session

from metering.catalog import Catalog
from metering.errors import ConfigurationError, Conflict
from metering.failpoints import visit
from metering.models import AuditEntry
from metering.runtime import Runtime
from metering.stripe_sync.gateway import StripeApi
from metering.stripe_sync.meters import is_settled, link_meters, links_of, usable, was_reported
from metering.stripe_sync.push.objects import act, find
from metering.stripe_sync.push.plan import Action, Found, Step, changes, plan
from metering.stripe_sync.push.stored import keep, kept_prices, kept_products
from metering.stripe_sync.push.wanted import Wanted, wanted
from metering.stripe_sync.reporting import paced_gateway_for
from metering.stripe_sync.terms import plainly
from metering.stripe_sync.units import units_of


@dataclass(frozen=True, slots=True)
class _Look:
    wanted: Wanted
    units: Mapping[str, Decimal]
    found: Found
    steps: list[Step]


def look(runtime: Runtime) -> list[Step]:
    """What a push would do now. Nothing is changed, here or at Stripe.

    Raises:
        ConfigurationError: METERING_STRIPE is off, or Stripe cannot bill what the catalog says.
        StripeFailed: Stripe did not answer.
    """
    api = _api(runtime)
    with runtime.transaction() as session:
        return _look(runtime, session, api).steps


def push(runtime: Runtime, agreed: Sequence[Step], *, actor: str) -> list[Step]:
    """Do what was agreed on, and keep the ids; the steps with their ids. Another push at the same time is waited for.

    Raises:
        Conflict: there is something else to do by now than what was agreed on; nothing was done.
        ConfigurationError, StripeFailed: as `look`; what was done before stays, and the next push goes on from there.
    """
    api = _api(runtime)
    done: list[Step] = []
    try:
        _push(runtime, api, agreed, done, actor)
    except Exception as error:
        if changes(done):
            with runtime.transaction() as session:
                _audit(session, api, "stripe.push_failed", done, runtime.clock(), actor, error=str(error))
        raise
    return done


def _push(runtime: Runtime, api: StripeApi, agreed: Sequence[Step], done: list[Step], actor: str) -> None:
    """In one transaction here; `done` says what came about at Stripe, also where it was not finished."""
    with runtime.transaction() as session:
        session.execute(
            text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": f"stripe push {api.account}"}
        )
        seen = _look(runtime, session, api)
        if any(step not in agreed for step in changes(seen.steps)):
            raise Conflict("what there is to do has changed since it was shown: look at it again")
        _act(api, seen, done)
        if changes(done):
            _audit(session, api, "stripe.push", done, runtime.clock(), actor)
        _keep(session, api, seen, done)


def _audit(
    session: Session, api: StripeApi, action: str, done: Sequence[Step], now: datetime, actor: str, **more: str
) -> None:
    steps = [f"{step.action} {step.kind} {step.key} {step.id}" for step in changes(done)]
    detail = {"account": api.account, "steps": steps, **more}
    session.add(AuditEntry(at=now, actor=actor, action=action, detail=detail))


def _api(runtime: Runtime) -> StripeApi:
    if runtime.settings.stripe == "off":
        raise ConfigurationError("METERING_STRIPE is off: there is nothing to push to")
    return paced_gateway_for(runtime)


def _look(runtime: Runtime, session: Session, api: StripeApi) -> _Look:
    """The catalog is that of the file: meters that were made at run time have no price."""
    catalog = runtime.file_catalog
    links = links_of(session, api.account)
    units = dict(units_of(catalog))
    fixed = {
        key: link.unit
        for key, link in links.items()
        if key in units and link.unit != units[key] and is_settled(session, link)
    }
    needed = _wanted(catalog, units | fixed, fixed)
    products, prices = kept_products(session, api.account), kept_prices(session, api.account)
    reported = {key for key, link in links.items() if was_reported(session, link)}
    found = find(api, needed, catalog, os.environ, links, reported, products, prices)
    return _Look(needed, units | fixed, found, plan(needed, found))


def _wanted(catalog: Catalog, units: Mapping[str, Decimal], fixed: Mapping[str, Decimal]) -> Wanted:
    try:
        return wanted(catalog, units)
    except ConfigurationError as error:
        stays = [
            f"  {key}: Stripe counts it in units of {plainly(unit)} already, and goes on so; another needs a new meter"
            for key, unit in sorted(fixed.items())
        ]
        raise ConfigurationError("\n".join([error.message, *stays])) from None


def _act(api: StripeApi, seen: _Look, done: list[Step]) -> None:
    meters = {key: meter.id for key, meter in seen.found.meters.items()}
    for step in seen.steps:
        id = step.id
        if step.action is not Action.SAME:
            id = act(api, step, meters)
            visit("stripe.pushed")
        if step.kind == "meter" and id is not None:
            meters[step.key] = id
        done.append(replace(step, id=id))


def _keep(session: Session, api: StripeApi, seen: _Look, done: Sequence[Step]) -> None:
    ids = {step.key: step.id for step in done if step.id is not None and step.action is not Action.DEACTIVATE}
    meters = {
        meter.key: seen.found.meters.get(meter.key) or usable(meter.key, api.meter(ids[meter.key]))
        for meter in seen.wanted.meters
    }
    # Before the prices, which settle the units. Writers of usage wait from here on until the transaction ends.
    link_meters(session, api.account, meters, seen.units)
    keep(session, api.account, seen.wanted, ids)
