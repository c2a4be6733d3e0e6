"""What goes into the intake and what comes out of it: values, all frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from metering.catalog.schema import LimitMode


@dataclass(frozen=True, slots=True)
class MeterStanding:
    """Where a customer stands on one meter, in scaled units. `held` is what running calls have reserved."""

    meter: str
    mode: LimitMode
    limit: int | None
    used: int
    held: int
    overshoot: bool = False

    @property
    def remaining(self) -> int | None:
        return None if self.limit is None else max(0, self.limit - self.used - self.held)

    def admits(self, units: int) -> bool:
        """Whether so many more would be let in now."""
        return self.mode != "hard" or self.remaining is None or units <= self.remaining


@dataclass(frozen=True, slots=True)
class RateStanding:
    """Where a customer, or one of its API keys, stands on a rate of calls.

    `arrival` is the theoretical arrival time of GCRA in microseconds since the epoch: when all calls so far would have
    come at the rate's own pace. The further it lies ahead of now, the less of the burst is left.
    """

    which: Literal["customer", "key"]
    count: int
    seconds: int
    burst: int
    interval_micros: int
    arrival: int

    def remaining(self, now: int) -> int:
        """How many calls may come at once."""
        return max(0, self.burst - -(-self.full_in_micros(now) // self.interval_micros))

    def full_in_micros(self, now: int) -> int:
        """How long until the whole burst may come again."""
        return max(0, self.arrival - now)

    def wait_micros(self, now: int) -> int:
        """How long until the next call may come."""
        return max(0, self.arrival + self.interval_micros - self.burst * self.interval_micros - now)


@dataclass(frozen=True, slots=True)
class Span:
    """A billing period, `[starts_at, ends_at)`."""

    id: int
    starts_at: datetime
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class Caller:
    """Who carries an API key. An operator's key has no customer."""

    customer: str
    key_id: int
    scopes: frozenset[str]

    @property
    def is_operator(self) -> bool:
        return not self.customer


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A repeated request does not run again. `digest` covers method, route and key, `fingerprint` the request."""

    digest: str
    fingerprint: str
    window_ms: int


@dataclass(frozen=True, slots=True)
class Ask:
    """What a call wants to be let in for. Either the key's digest or the customer says for whom.

    `is_call`: it counts against the rates of its customer and key; quota that is held for anything else does not.
    """

    reserve: Mapping[str, int]
    key_digest: str = ""
    scope: str = ""
    customer: str = ""
    idempotency: IdempotencyKey | None = None
    is_call: bool = True


@dataclass(frozen=True, slots=True)
class Admission:
    """A call that was let in: a reservation to settle, renew or release."""

    rid: str
    partition: int
    customer: str
    key_id: int | None
    period: Span
    admitted: int
    meters: tuple[MeterStanding, ...]
    reserved: tuple[int, ...]
    rates: tuple[RateStanding, ...] = ()
    idempotency: IdempotencyKey | None = None

    def given_back(self) -> tuple[MeterStanding, ...]:
        """The standings once this reservation no longer holds anything."""
        return tuple(
            replace(standing, held=max(0, standing.held - units))
            for standing, units in zip(self.meters, self.reserved, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Replay:
    """The stored answer of a request that was made before with the same Idempotency-Key."""

    customer: str
    answer: bytes
    key_id: int | None = None


@dataclass(frozen=True, slots=True)
class Recording:
    """How events are recorded: when, and for how long their identities are remembered in Redis.

    With `enforce` they are refused where they would pass a hard limit, and past `backlog_limit` waiting entries anyway.
    """

    now: datetime
    identity_window_seconds: float
    backlog_limit: int
    enforce: bool = False


@dataclass(frozen=True, slots=True)
class Settlement:
    """`duplicate`: it had been counted before, and was not counted again."""

    duplicate: bool
    meters: tuple[MeterStanding, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Standing:
    customer: str
    plan: str
    status: str
    period: Span
    meters: tuple[MeterStanding, ...]
    rates: tuple[RateStanding, ...] = ()
