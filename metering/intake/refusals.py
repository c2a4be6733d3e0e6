"""The error that each refusal of the scripts stands for."""

from collections.abc import Mapping, Sequence
from decimal import Decimal

from metering.catalog import Meter
from metering.catalog.schema import RATE_SECONDS
from metering.errors import (
    IdempotencyMismatch,
    IdempotencyRunning,
    IntakeUnavailable,
    InvalidUsage,
    LimitExceeded,
    NotAuthenticated,
    NotPermitted,
    RateLimited,
    UnknownCustomer,
    UsageConflict,
)
from metering.intake.values import MeterStanding, RateStanding, Span

RATE_UNITS = {seconds: unit for unit, seconds in RATE_SECONDS.items()}


class StaleState(IntakeUnavailable):
    """The state of a customer in Redis is older than its billing period: it must be sent anew."""


def limit_exceeded(
    meters: Mapping[str, Meter],
    standings: Sequence[MeterStanding],
    place: int,
    asked: Mapping[str, int],
    period: Span,
    rates: Sequence[RateStanding] = (),
) -> LimitExceeded:
    refused = standings[place]
    meter = meters[refused.meter]
    limit = meter.to_quantity(refused.limit or 0)
    remaining = meter.to_quantity(refused.remaining or 0)
    wanted = meter.to_quantity(asked[refused.meter])
    return LimitExceeded(
        f"{meter.name}: {wanted} more would pass the limit of {limit}; {remaining} remain",
        meter=refused.meter,
        limit=limit,
        remaining=remaining,
        resets_at=None if meter.is_level else period.ends_at,
        standings=tuple(standings),
        rates=tuple(rates),
        period=period,
    )


def rate_limited(
    rates: Sequence[RateStanding], standings: Sequence[MeterStanding], period: Span, now: int
) -> RateLimited:
    """Names the rate that holds the call up longest; `now` in microseconds since the epoch."""
    slowest = max(rates, key=lambda rate: rate.wait_micros(now))
    wait = Decimal(slowest.wait_micros(now)).scaleb(-6).normalize()
    rate = f"{slowest.count}/{RATE_UNITS[slowest.seconds]}"
    who = "this customer" if slowest.which == "customer" else "this API key"
    return RateLimited(
        f"{who} may make {rate.replace('/', ' calls a ')}, {slowest.burst} at once; the next in {wait:f} seconds",
        which=slowest.which,
        rate=rate,
        burst=slowest.burst,
        retry_after=wait,
        standings=tuple(standings),
        rates=tuple(rates),
        period=period,
    )


def missing_scope(scope: str) -> NotPermitted:
    return NotPermitted(f"this API key does not carry the scope {scope!r}", scope=scope)


def nobody_to_bill(scope: str) -> NotPermitted:
    """For an operators' key that makes a metered call, whatever scopes it carries."""
    return NotPermitted(
        "an operators' key belongs to no customer, so there is nobody to bill: call this with a customer's key that "
        f"carries the scope {scope!r}",
        scope=scope,
    )


def refusal(code: str, facts: Sequence[bytes]) -> Exception:
    """The error that a script's code stands for."""
    words = [fact.decode() if isinstance(fact, bytes) else str(fact) for fact in facts]
    match code:
        case "outage":
            return IntakeUnavailable("the live counters are being rebuilt")
        case "busy":
            return IntakeUnavailable("another request is recording some of these events, or moves these levels")
        case "unclaimed":
            return IntakeUnavailable("recording these events took too long")
        case "stale":
            return StaleState("the customer's billing period is not known yet", customer=words[-1])
        case "unknown_key":
            return NotAuthenticated("this API key is unknown, was revoked or has expired")
        case "scope":
            return missing_scope(words[0])
        case "no_customer":
            return nobody_to_bill(words[0])
        case "inactive":
            return NotPermitted("this customer is suspended")
        case "unknown_customer":
            return UnknownCustomer(f"there is no customer {words[0]!r}", customer=words[0])
        case "conflict":
            return UsageConflict("this was settled before with other figures; what was recorded stands")
        case "below_zero":
            return InvalidUsage(f"{words[1]}: the level would fall below zero", meter=words[1])
        case "too_large":
            return InvalidUsage(f"{words[1]}: the total would pass 2^53 - 1", meter=words[1])
        case "idempotency_running":
            return IdempotencyRunning("a request with this Idempotency-Key is still running")
        case "idempotency_mismatch":
            return IdempotencyMismatch("this Idempotency-Key was used for another request")
        case "backlog":
            return IntakeUnavailable("the backlog of usage that waits for PostgreSQL is full")
    raise AssertionError(f"a script answered {code!r}")


def record_refusal(code: str, facts: Sequence[bytes]) -> Exception:
    if code == "conflict":
        items = [int(item) for item in facts]
        return UsageConflict("an event with this identity was recorded with another payload", items=items)
    if code == "unknown_customer":
        return UnknownCustomer("there is no such customer", item=int(facts[0]))
    if code in ("below_zero", "too_large"):
        why = "the level would fall below zero" if code == "below_zero" else "the total would pass 2^53 - 1"
        return InvalidUsage(why, item=int(facts[0]))
    return refusal(code, facts)
