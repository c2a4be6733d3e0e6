"""What goes into the intake and what comes out of it: values, all frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

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
    """What a call wants to be let in for. Either the key's digest or the customer says for whom."""

    reserve: Mapping[str, int]
    key_digest: str = ""
    scope: str = ""
    customer: str = ""
    idempotency: IdempotencyKey | None = None


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


@dataclass(frozen=True, slots=True)
class Moved:
    """By how many scaled units some events would move a counter, and whether a hard limit holds that."""

    customer: str
    meter: str
    units: int
    limited: bool


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
