"""Admission: may this call go ahead, and what did it use in the end? The Python side of the scripts.

Always holds: checking and holding is one step over all limits of a call, all or nothing; a settlement is recorded in
full, once, however often it is sent; a reservation whose process died comes free with its lease.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from metering.catalog import Meter
from metering.clock import from_micros, to_micros
from metering.errors import IntakeUnavailable, UnknownMeter
from metering.ids import partition_of
from metering.intake import scripts
from metering.intake.event import UsageEvent, live_kind
from metering.intake.refusals import limit_exceeded, rate_limited, record_refusal, refusal
from metering.intake.values import (
    Admission,
    Ask,
    Caller,
    MeterStanding,
    Moved,
    RateStanding,
    Replay,
    Settlement,
    Span,
    Standing,
)
from metering.intake.wire import execute_all

MAX_EVENTS_PER_SCRIPT = 500
"""More would keep Redis from answering anybody else for too long."""

CALL_IDENTITY_MS = 3_600_000
"""How long the identity of a call is remembered: only its own process can send it again."""


class Intake:
    """The one door for usage. Holds no state of its own: any number of processes may have one."""

    def __init__(self, redis: Redis, meters: Mapping[str, Meter], partitions: int, lease_seconds: float) -> None:
        self.redis = redis
        self.meters = meters
        self.partitions = partitions
        self.lease_micros = int(lease_seconds * 1_000_000)

    def with_lease(self, seconds: float) -> "Intake":
        """The same door, with leases of another length."""
        return Intake(self.redis, self.meters, self.partitions, seconds)

    def partition(self, customer: str) -> int:
        return partition_of(customer, self.partitions)

    # -- calls ---------------------------------------------------------------------------------------------------

    def reserve(self, ask: Ask, *, rid: str, partition: int, now: datetime) -> Admission | Replay:
        """Let a call in, holding `ask.reserve` (scaled units by meter) until it settles or its lease runs out.

        Raises:
            NotAuthenticated, NotPermitted, UnknownCustomer, UnknownMeter: it may not come in at all.
            LimitExceeded, RateLimited: a hard limit would be passed, or calls come too fast; nothing was held.
            IdempotencyRunning, IdempotencyMismatch: as the IETF draft on Idempotency-Key says.
            IntakeUnavailable: nobody can tell right now.
        """
        moment = to_micros(now)
        idem = ask.idempotency
        args: list[Any] = [moment, self.lease_micros, rid, ask.key_digest, ask.scope, ask.customer, int(ask.is_call)]
        args += [idem.digest, idem.fingerprint] if idem else ["", ""]
        for meter, units in ask.reserve.items():
            args += [meter, self._kind(meter), units]
        answer = scripts.run(self.redis, "reserve", partition, *args)
        code = answer[0].decode()
        if code == "replay":
            return Replay(answer[1].decode(), answer[3], int(answer[2]) if answer[2] else None)
        if code not in ("ok", "limit", "rate"):
            raise refusal(code, answer[1:])
        period = _span(answer[3], answer[4], answer[5])
        rates = tuple(_rates(answer[7:9]))
        standings = tuple(_standings(tuple(ask.reserve), answer[9:], width=4))
        if code == "limit":
            raise limit_exceeded(self.meters, standings, int(answer[6]) - 1, ask.reserve, period, rates)
        if code == "rate":
            raise rate_limited(rates, standings, period, moment)
        return Admission(
            rid=rid,
            partition=partition,
            customer=answer[1].decode(),
            key_id=int(answer[2]) if answer[2] else None,
            period=period,
            admitted=moment,
            meters=standings,
            reserved=tuple(ask.reserve.values()),
            rates=rates,
            idempotency=idem,
        )

    def settle(
        self, admission: Admission, events: Sequence[UsageEvent], *, now: datetime, answer: bytes = b""
    ) -> Settlement:
        """Record what the call really used and give its reservation back, in one step that may be repeated.

        Raises:
            InvalidUsage: a level would fall below zero, or a total pass 2^53 - 1; nothing was recorded, and what was
                held still is.
            UsageConflict: it was settled before with other figures, which stand.
            IntakeUnavailable: unknown whether it was recorded; settle again.
        """
        idem = admission.idempotency
        args: list[Any] = [to_micros(now), admission.rid, admission.customer, admission.admitted, CALL_IDENTITY_MS]
        args += [idem.digest, idem.fingerprint, idem.window_ms, answer] if idem else ["", "", "0", ""]
        for event in events:
            args += [event.meter, self._kind(event.meter), event.op, event.units]
            args += [event.digest, event.payload, event.message()]
        reply = scripts.run(self.redis, "settle", admission.partition, *args)
        code = reply[0].decode()
        if code not in ("ok", "duplicate"):
            raise refusal(code, reply[1:])
        names = [event.meter for event in events]
        return Settlement(duplicate=code == "duplicate", meters=tuple(_standings(names, reply[1:], width=5)))

    def release(self, admission: Admission) -> None:
        """Give the reservation back: the call failed, so it consumes nothing."""
        idem = admission.idempotency.digest if admission.idempotency else ""
        scripts.run(self.redis, "release", admission.partition, admission.rid, admission.customer, idem)

    def renew(self, admission: Admission, *, now: datetime) -> bool:
        """Keep the reservation of a call that still runs. False: it had expired, its quota may be gone."""
        idem = admission.idempotency.digest if admission.idempotency else ""
        expiry = to_micros(now) + self.lease_micros
        return bool(
            scripts.run(
                self.redis,
                "renew",
                admission.partition,
                expiry,
                self.lease_micros,
                admission.rid,
                admission.customer,
                idem,
            )
        )

    # -- events --------------------------------------------------------------------------------------------------

    def record(
        self,
        partition: int,
        events: Sequence[UsageEvent],
        *,
        now: datetime,
        identity_window_seconds: float,
        backlog_limit: int,
        enforce: bool = False,
    ) -> int:
        """Record up to 500 events of one partition, all or none; how many were new.

        Raises:
            UsageConflict: an identity is taken by another payload; `facts["items"]` are their places.
            LimitExceeded: with `enforce`, a hard limit would be passed.
            UnknownCustomer, InvalidUsage: `facts["item"]` is the place of the first event that cannot be recorded.
            IntakeUnavailable: unknown whether they were recorded; send them again.
        """
        head = [to_micros(now), int(enforce), int(identity_window_seconds * 1000), backlog_limit, 0, 0]
        reply = scripts.run(self.redis, "record", partition, *self._arguments(head, events))
        return int(self._recorded(reply, events)[1])

    def record_all(
        self,
        parts: Sequence[tuple[int, Sequence[UsageEvent]]],
        *,
        now: datetime,
        identity_window_seconds: float,
        backlog_limit: int,
    ) -> list[bool]:
        """Record runs of events, each of one partition, in one round trip; for each whether it was recorded.

        One that was not is refused by `record`, which says why. Raises IntakeUnavailable: unknown what was recorded.
        """
        head = [to_micros(now), 0, int(identity_window_seconds * 1000), backlog_limit, 0, 0]
        calls = [(partition, self._arguments(head, events)) for partition, events in parts]
        return [reply[0] == b"ok" for reply in scripts.run_all(self.redis, "record", calls)]

    def look(
        self,
        partition: int,
        events: Sequence[UsageEvent],
        carried: Mapping[str, Moved],
        *,
        now: datetime,
        backlog_limit: int,
        enforce: bool = False,
    ) -> tuple[int, dict[str, Moved]]:
        """What `record` would do, without doing it: how many are new, and which counters would move by how much.

        `carried` is what earlier looks at the same partition answered: together they see what one of all would.
        Raises as `record` does.
        """
        head: list[Any] = [to_micros(now), int(enforce), 1, backlog_limit, 1, len(carried)]
        for place, moved in carried.items():
            head += [place, moved.units]
        reply = scripts.run(self.redis, "record", partition, *self._arguments(head, events))
        _, fresh, *found = self._recorded(reply, events)
        moves = dict(carried)
        for start in range(0, len(found), 5):
            place, customer, meter, units, limited = found[start : start + 5]
            moves[place.decode()] = Moved(customer.decode(), meter.decode(), int(units), bool(limited))
        return int(fresh), moves

    def _arguments(self, head: Sequence[Any], events: Sequence[UsageEvent]) -> list[Any]:
        args = list(head)
        for event in events:
            args += [event.digest, event.payload, event.customer, event.meter, self._kind(event.meter)]
            args += [event.op, event.units, event.time, event.message()]
        return args

    def _recorded(self, reply: Any, events: Sequence[UsageEvent]) -> Any:
        code = reply[0].decode()
        if code == "ok":
            return reply
        if code == "limit":
            event = events[int(reply[1])]
            standing = next(_standings([event.meter], reply[2:6], width=4))
            period = Span(0, from_micros(int(reply[6])), from_micros(int(reply[7])))
            refused = limit_exceeded(self.meters, (standing,), 0, {event.meter: event.units}, period)
            refused.facts["item"] = int(reply[1])
            raise refused
        raise record_refusal(code, reply[1:])

    def conflicting(self, parts: Sequence[tuple[int, Sequence[UsageEvent]]]) -> list[UsageEvent]:
        """Those whose identity is remembered with another payload. Raises IntakeUnavailable."""
        commands = [
            ("MGET", *[f"{scripts.prefix(partition)}d:{event.digest}" for event in events])
            for partition, events in parts
        ]
        try:
            answers = execute_all(self.redis, commands)
        except RedisError as error:
            raise IntakeUnavailable("Redis did not answer") from error
        return [
            event
            for (_, events), remembered in zip(parts, answers, strict=True)
            for event, payload in zip(events, remembered, strict=True)
            if payload is not None and payload.decode() != event.payload
        ]

    def known(self, customers: Iterable[str]) -> set[str]:
        """Those of `customers` whose state is in Redis. Raises IntakeUnavailable."""
        names = list(customers)
        pipe = self.redis.pipeline(transaction=False)
        for name in names:
            pipe.exists(f"{scripts.prefix(self.partition(name))}c:{name}")
        try:
            return {name for name, exists in zip(names, pipe.execute(), strict=True) if exists}
        except RedisError as error:
            raise IntakeUnavailable("Redis did not answer") from error

    # -- looking -------------------------------------------------------------------------------------------------

    def authenticate(self, key_digest: str, partition: int, *, now: datetime) -> Caller:
        """Who carries this key. Raises NotAuthenticated, IntakeUnavailable."""
        reply = scripts.run(self.redis, "authenticate", partition, to_micros(now), key_digest)
        if reply[0] != b"ok":
            raise refusal(reply[0].decode(), reply[1:])
        return Caller(reply[1].decode(), int(reply[2]), frozenset(reply[3].decode().split()))

    def standing(self, customer: str, meters: Iterable[str], *, now: datetime, key_id: int | None = None) -> Standing:
        """Where a customer stands now on `meters` and on its rates, with those of one API key if `key_id` names it.

        Raises UnknownCustomer, IntakeUnavailable.
        """
        names = list(meters)
        args: list[Any] = [to_micros(now), customer, "" if key_id is None else key_id]
        for name in names:
            args += [name, self._kind(name)]
        reply = scripts.run(self.redis, "standing", self.partition(customer), *args)
        if reply[0] != b"ok":
            raise refusal(reply[0].decode(), reply[1:])
        return Standing(
            customer=customer,
            plan=reply[1].decode(),
            status=reply[2].decode(),
            period=_span(reply[3], reply[4], reply[5]),
            meters=tuple(_standings(names, reply[8:], width=4)),
            rates=tuple(_rates(reply[6:8])),
        )

    def _kind(self, meter: str) -> str:
        try:
            return live_kind(self.meters[meter])
        except KeyError:
            raise UnknownMeter(f"there is no meter {meter!r}", meter=meter) from None


@lru_cache(maxsize=1024)
def _span(id: bytes, starts: bytes, ends: bytes) -> Span:
    """A period as the scripts tell it; all calls of a customer, and most customers, have the same."""
    return Span(int(id), from_micros(int(starts)), from_micros(int(ends)))


def _rates(answers: Sequence[bytes]) -> Iterator[RateStanding]:
    """The rates of the customer and of its key, those there are; an empty answer stands for none."""
    if answers[0]:
        yield RateStanding("customer", *map(int, answers[0].split(b"|")))
    if answers[1]:
        yield RateStanding("key", *map(int, answers[1].split(b"|")))


def _standings(meters: Sequence[str], values: Sequence[bytes], *, width: int) -> Iterator[MeterStanding]:
    for place, meter in enumerate(meters):
        mode, limit, used, held, *rest = values[place * width : (place + 1) * width]
        yield MeterStanding(
            meter=meter,
            mode=mode.decode(),  # type: ignore[arg-type]  # the scripts know three modes
            limit=int(limit) if limit else None,
            used=int(used),
            held=int(held),
            overshoot=bool(rest and int(rest[0])),
        )
