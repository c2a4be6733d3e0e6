"""Letting a call in: by the intake, or, while it is away and the settings allow, on trust."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy.exc import SQLAlchemyError

from metering.accounts.keys import find_caller
from metering.calls.call import Call
from metering.clock import to_micros
from metering.errors import IntakeUnavailable, NotAuthenticated
from metering.ids import key_digest, key_partition, new_id
from metering.intake.refusals import StaleState, missing_scope, nobody_to_bill
from metering.intake.values import Admission, Ask, Caller, MeterStanding, Replay, Span
from metering.service import Metering


def bearer_of(metering: Metering, secret: str | None) -> tuple[str, int]:
    """The digest of an API key, and the partition to ask about it. Raises NotAuthenticated for what is no key."""
    partition = key_partition(secret) if secret else None
    if secret is None or partition is None or partition >= metering.settings.partitions:
        raise NotAuthenticated("send an API key: Authorization: Bearer mk_…")
    return key_digest(secret), partition


def check_caller(metering: Metering, secret: str | None, scope: str) -> None:
    """Raises NotAuthenticated or NotPermitted for a bearer who could not call; costs a round trip, holds nothing."""
    digest, partition = bearer_of(metering, secret)
    runtime = metering.runtime
    caller = runtime.intake.authenticate(digest, partition, now=runtime.clock())
    _check_scope(caller, scope)


def let_in(metering: Metering, ask: Ask, partition: int, main_meter: str, quantity: Decimal) -> Call | Replay:
    """A running call, or the stored answer of the request that this one repeats.

    Raises:
        NotAuthenticated, NotPermitted, UnknownCustomer, UnknownMeter, LimitExceeded, RateLimited: it may not
            go ahead.
        IdempotencyRunning, IdempotencyMismatch: another request holds its Idempotency-Key.
        IntakeUnavailable: nobody can tell, and METERING_ON_OUTAGE is deny.
    """
    try:
        admitted = _reserve(metering, ask, partition)
    except IntakeUnavailable:
        if metering.settings.on_outage == "deny":
            raise
        return _on_trust(metering, ask, main_meter, quantity)
    if isinstance(admitted, Replay):
        return admitted
    return metering.calls.started(admitted, main_meter, quantity)


def rehearsed(metering: Metering, ask: Ask, main_meter: str, quantity: Decimal) -> Call:
    """A call that nobody checks and nothing records. Needs no server."""
    admission = _unchecked(ask, new_id(), ask.customer, None, 0, metering.clock())
    return Call(admission, main_meter, metering.catalog, used={main_meter: quantity}, offline=True)


def _reserve(metering: Metering, ask: Ask, partition: int) -> Admission | Replay:
    intake, clock, rid = metering.runtime.intake, metering.runtime.clock, new_id()
    try:
        return intake.reserve(ask, rid=rid, partition=partition, now=clock())
    except StaleState as stale:
        metering.refresh(str(stale.facts["customer"]))
        return intake.reserve(ask, rid=rid, partition=partition, now=clock())


def _on_trust(metering: Metering, ask: Ask, main_meter: str, quantity: Decimal) -> Call:
    """A call without Redis; repeated meanwhile with its Idempotency-Key, it counts once."""
    runtime, idem = metering.runtime, ask.idempotency
    customer, key_id = _bearer(metering, ask) if ask.key_digest else (ask.customer, None)
    admission = _unchecked(ask, new_id(), customer, key_id, runtime.intake.partition(customer), runtime.clock())
    used = {main_meter: quantity}
    return Call(admission, main_meter, metering.catalog, used=used, offline=True, idempotency=idem)


def _unchecked(ask: Ask, rid: str, customer: str, key_id: int | None, partition: int, now: datetime) -> Admission:
    return Admission(
        rid=rid,
        partition=partition,
        customer=customer,
        key_id=key_id,
        period=Span(0, now, now),
        admitted=to_micros(now),
        meters=tuple(MeterStanding(meter, "none", None, 0, 0) for meter in ask.reserve),
        reserved=tuple(ask.reserve.values()),
    )


def _bearer(metering: Metering, ask: Ask) -> tuple[str, int]:
    """Who carries the key, from PostgreSQL. Raises NotAuthenticated, NotPermitted, IntakeUnavailable."""
    try:
        with metering.runtime.transaction() as session:
            found = find_caller(session, ask.key_digest, now=metering.runtime.clock())
    except SQLAlchemyError as error:
        raise IntakeUnavailable("neither Redis nor PostgreSQL answers") from error
    if found is None:
        raise NotAuthenticated("this API key is unknown, was revoked or has expired")
    _check_scope(found, ask.scope)
    return found.customer, found.key_id


def _check_scope(caller: Caller, scope: str) -> None:
    """Raises NotPermitted for one who may make no metered call, as the script does."""
    if caller.is_operator:
        raise nobody_to_bill(scope)
    if scope not in caller.scopes:
        raise missing_scope(scope)
