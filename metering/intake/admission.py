"""Admission: may this call go ahead, and what did it use in the end? The Python side of the scripts.

Always holds: checking and holding is one step over all limits of a call, all or nothing; a settlement is recorded in
full, once, however often it is sent; a reservation whose process died comes free with its lease.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from time import monotonic, perf_counter, sleep
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from metering.catalog import Meter
from metering.clock import from_micros, to_micros
from metering.errors import IntakeUnavailable, LimitExceeded, UnknownMeter
from metering.ids import partition_of
from metering.intake import scripts
from metering.intake.event import UsageEvent, live_kind
from metering.intake.refusals import limit_exceeded, rate_limited, record_refusal, refusal
from metering.intake.tally import Tally
from metering.intake.values import (
    Admission,
    Ask,
    Caller,
    MeterStanding,
    RateStanding,
    Recording,
    Replay,
    Settlement,
    Span,
    Standing,
)

MAX_EVENTS_PER_SCRIPT = 500
"""More would keep Redis from answering anybody else for too long."""

PATIENCE_SECONDS = 2.0
PAUSE_SECONDS = 0.01
"""How long, and how often, what another request has claimed is asked for."""

CALL_IDENTITY_MS = 3_600_000
"""How long the identity of a call is remembered: only its own process can send it again."""


class Intake:
    """The one door for usage. Holds no state of its own: any number of processes may have one."""

    def __init__(
        self,
        redis: Redis,
        meters: Mapping[str, Meter],
        partitions: int,
        lease_seconds: float,
        tally: Tally | None = None,
    ) -> None:
        """`tally`: where what flows is counted, for those who look on."""
        self.redis = redis
        self.tally = tally
        self.meters = meters
        self.partitions = partitions
        self.lease_micros = int(lease_seconds * 1_000_000)

    def with_lease(self, seconds: float) -> "Intake":
        """The same door, with leases of another length."""
        return Intake(self.redis, self.meters, self.partitions, seconds, self.tally)

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
        began = perf_counter()
        answer = scripts.run(self.redis, "reserve", partition, *args)
        code = answer[0].decode()
        if self.tally:
            self.tally.admitted(perf_counter() - began, now)
        if code == "replay":
            return Replay(answer[1].decode(), answer[3], int(answer[2]) if answer[2] else None)
        if code not in ("ok", "limit", "rate"):
            raise refusal(code, answer[1:])
        period = _span(answer[3], answer[4], answer[5])
        rates = tuple(_rates(answer[7:9]))
        standings = tuple(_standings(tuple(ask.reserve), answer[9:], width=4))
        if code == "limit":
            place = int(answer[6]) - 1
            self._count_refused(standings[place].meter, now)
            raise limit_exceeded(self.meters, standings, place, ask.reserve, period, rates)
        if code == "rate":
            self._count_refused("rate", now)
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
        reply = self._run("settle", admission.partition, args)
        code = reply[0].decode()
        if code not in ("ok", "duplicate"):
            raise refusal(code, reply[1:])
        if self.tally and code == "ok":
            self.tally.recorded(len(events), now)
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

    def record(self, partition: int, events: Sequence[UsageEvent], how: Recording, *, claim: str = "") -> int:
        """Record up to 500 events of one partition, all or none; how many were new.

        Raises:
            UsageConflict: an identity is taken by another payload; `facts["items"]` are their places.
            LimitExceeded: with `how.enforce`, a hard limit would be passed.
            UnknownCustomer, InvalidUsage: `facts["item"]` is the place of the first event that cannot be recorded.
            IntakeUnavailable: unknown whether they were recorded; send them again.
        """
        arguments = self.record_arguments(events, how, claim=claim)
        try:
            fresh = int(self.recorded(self._run("record", partition, arguments), events)[1])
        except LimitExceeded as refused:
            self._count_refused(refused.facts["meter"], how.now)
            raise
        if self.tally:
            self.tally.recorded(fresh, how.now)
        return fresh

    def record_arguments(
        self,
        events: Sequence[UsageEvent],
        how: Recording,
        *,
        claim: str = "",
        look: bool = False,
        carried: Sequence[Any] = (),
    ) -> list[Any]:
        """What the script `record` is run with."""
        args: list[Any] = [to_micros(how.now), int(how.enforce), int(how.identity_window_seconds * 1000)]
        args += [how.backlog_limit, int(look), claim, len(carried) // 2, *carried]
        for event in events:
            args += [event.digest, event.payload, event.customer, event.meter, self._kind(event.meter)]
            args += [event.op, event.units, event.time, event.message()]
        return args

    def recorded(self, reply: Any, events: Sequence[UsageEvent]) -> Any:
        """What the script `record` answered. Raises as `record` does."""
        code = reply[0].decode()
        if code == "ok":
            return reply
        if code == "limit":
            event = events[int(reply[1])]
            refused = self.past_limit(event.meter, event.units, reply[2:])
            refused.facts["item"] = int(reply[1])
            raise refused
        raise record_refusal(code, reply[1:])

    def past_limit(self, meter: str, units: int, facts: Sequence[bytes]) -> LimitExceeded:
        """The refusal that a script's facts stand for: mode, limit, used, held, start and end of the period."""
        standing = next(_standings([meter], facts, width=4))
        period = Span(0, from_micros(int(facts[4])), from_micros(int(facts[5])))
        return limit_exceeded(self.meters, (standing,), 0, {meter: units}, period)

    def _run(self, name: str, partition: int, arguments: Sequence[Any]) -> Any:
        """Run a script; again, for a while, where a request of several scripts has claimed what it would touch."""
        give_up_at = monotonic() + PATIENCE_SECONDS
        while True:
            answer = scripts.run(self.redis, name, partition, *arguments)
            if answer[0] != b"busy" or monotonic() > give_up_at:
                return answer
            sleep(PAUSE_SECONDS)

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

    def _count_refused(self, what: str, now: datetime) -> None:
        if self.tally:
            self.tally.refused(what, now)

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
