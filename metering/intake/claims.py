"""Recording what no single script can take: claimed, looked at, recorded; all of it or nothing.

Always holds: from `taken` on, until it is recorded or given back, nobody else records an identity of the request or
moves a level that it moves, so that nothing can refuse one run of it after another was recorded. Redis keeps claims,
and quota that is held, in memory only: where it or this process dies they run out, and the request, of which nobody
was told that it was recorded, is sent again and completed.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from time import monotonic, sleep
from typing import Any

from metering.clock import to_micros
from metering.errors import IntakeUnavailable, UsageConflict
from metering.ids import new_id
from metering.intake import scripts
from metering.intake.admission import PATIENCE_SECONDS, Intake
from metering.intake.event import UsageEvent
from metering.intake.refusals import refusal
from metering.intake.values import Recording

CLAIM_SECONDS = 4.0
"""How long others, the same request sent again among them, wait at most for one whose process died."""

SAFE_SECONDS = 2.0
"""An older claim may run out before all is recorded: then nothing is."""

PAUSE_SECONDS = (0.005, 0.05)
"""Two requests that claim each other's events give way for different times."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Up to 500 events of one partition: what a script records."""

    partition: int
    events: Sequence[UsageEvent]

    def levels(self, intake: Intake) -> list[tuple[str, str]]:
        """The levels that it moves, by customer and meter."""
        found = {(event.customer, event.meter) for event in self.events}
        return sorted((customer, meter) for customer, meter in found if intake.meters[meter].is_level)


@dataclass(frozen=True, slots=True)
class Moved:
    """By how many scaled units some events would move a counter, and whether a hard limit holds that."""

    units: int
    limited: bool


Moves = Mapping[tuple[str, str], Moved]
"""By customer and counter."""


class Claim:
    """A request that is recorded in several runs."""

    def __init__(self, intake: Intake, runs: Sequence[Run], how: Recording) -> None:
        self.runs = runs
        self._intake = intake
        self._how = how
        self._levels = [run.levels(intake) for run in runs]
        self._id = new_id()
        self._taken_at = 0.0

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold the claim while the block runs.

        Raises:
            UsageConflict: identities are taken by other payloads; `facts["events"]` are the events that bear them.
            IntakeUnavailable: Redis did not answer, or another request holds some of it for too long.
        """
        give_up_at = monotonic() + PATIENCE_SECONDS
        try:
            while not self._take():
                self._give_back(identities=True)
                if monotonic() > give_up_at:
                    raise refusal("busy", [])
                sleep(random.uniform(*PAUSE_SECONDS))  # noqa: S311 - no secret
            yield
        except BaseException:
            self._give_back(identities=True)
            raise
        self._give_back(identities=False)  # an identity bears what it stands for by now

    def _take(self) -> bool:
        """Whether all of it was claimed; else some may be."""
        self._taken_at = monotonic()
        calls = [
            (run.partition, [self._id, int(CLAIM_SECONDS * 1000), *_flat(levels), *_identities(run)])
            for run, levels in zip(self.runs, self._levels, strict=True)
        ]
        answers = scripts.run_all(self._intake.redis, "claim", calls)
        taken = [
            run.events[int(item)]
            for run, (code, *items) in zip(self.runs, answers, strict=True)
            if code == b"conflict"
            for item in items
        ]
        if taken:
            raise UsageConflict("these identities are taken by other payloads", events=taken)
        for code, *_ in answers:
            if code not in (b"ok", b"busy"):
                raise refusal(code.decode(), [])
        return all(code == b"ok" for code, *_ in answers)

    def _give_back(self, *, identities: bool) -> None:
        calls = [
            (run.partition, [self._id, *_flat(levels), *(e.digest for e in run.events if identities)])
            for run, levels in zip(self.runs, self._levels, strict=True)
            if levels or identities
        ]
        if calls:
            with suppress(IntakeUnavailable):  # then they run out
                scripts.run_all(self._intake.redis, "unclaim", calls)

    def look(self, run: Run, carried: Moves) -> Moves:
        """What recording a run would move, beside what earlier looks at its partition have found.

        Raises as `Intake.record` does.
        """
        before = [part for place, moved in carried.items() for part in (" ".join(place), moved.units)]
        arguments = self._intake.record_arguments(run.events, self._how, claim=self._id, look=True, carried=before)
        reply = scripts.run(self._intake.redis, "record", run.partition, *arguments)
        _, _, *found = self._intake.recorded(reply, run.events)
        moves = dict(carried)
        for start in range(0, len(found), 4):
            customer, field, units, limited = found[start : start + 4]
            moves[customer.decode(), field.decode()] = Moved(int(units), bool(limited))
        return moves

    @contextmanager
    def room(self, moves: Moves) -> Iterator[None]:
        """Hold the quota that the request, of one customer, will use, so that no call takes it meanwhile.

        What is recorded counts beside what is held for it: for that moment others find less room, never more.

        Raises LimitExceeded, IntakeUnavailable.
        """
        wanted = {place: moved.units for place, moved in moves.items() if moved.limited and moved.units > 0}
        customers = {customer for customer, _ in wanted}
        if not customers:
            yield
            return
        (customer,) = customers
        partition = self._intake.partition(customer)
        self._hold(partition, customer, [(field, units) for (_, field), units in wanted.items()])
        try:
            yield
        finally:
            with suppress(IntakeUnavailable):  # then its lease runs out
                scripts.run(self._intake.redis, "release", partition, self._id, customer, "")

    def _hold(self, partition: int, customer: str, wanted: Sequence[tuple[str, int]]) -> None:
        arguments: list[Any] = [to_micros(self._how.now), self._intake.lease_micros, self._id, customer]
        arguments += [part for one in wanted for part in one]
        reply = scripts.run(self._intake.redis, "hold", partition, *arguments)
        if reply[0] == b"limit":
            field, units = wanted[int(reply[1])]
            raise self._intake.past_limit(field.split(":", 1)[1], units, reply[2:])
        if reply[0] != b"ok":
            raise refusal(reply[0].decode(), reply[1:])

    def record(self) -> list[Run]:
        """Record all runs, in one round trip; those that were not recorded. Limits were looked at, and room was held.

        Raises IntakeUnavailable: unknown what was recorded.
        """
        if monotonic() - self._taken_at > SAFE_SECONDS:
            raise refusal("unclaimed", [])
        how = replace(self._how, enforce=False)
        calls = [(run.partition, self._intake.record_arguments(run.events, how, claim=self._id)) for run in self.runs]
        replies = scripts.run_all(self._intake.redis, "record", calls)
        if tally := self._intake.tally:
            tally.recorded(sum(int(reply[1]) for reply in replies if reply[0] == b"ok"), how.now)
        return [run for run, reply in zip(self.runs, replies, strict=True) if reply[0] != b"ok"]

    def record_again(self, run: Run) -> None:
        """Record a run that was not: its customer's state was too old, or else this raises, as `Intake.record` does."""
        self._intake.record(run.partition, run.events, replace(self._how, enforce=False), claim=self._id)


class LevelClaim:
    """Levels of one partition, by customer and meter, that nobody else may move for a moment."""

    def __init__(self, intake: Intake, partition: int, levels: Sequence[tuple[str, str]]) -> None:
        self.id = new_id()
        self._redis = intake.redis
        self._partition = partition
        self._levels = _flat(levels)
        self._taken_at = 0.0

    def take(self) -> None:
        """Raises IntakeUnavailable: Redis did not answer, or another request holds one of them for too long."""
        give_up_at = monotonic() + PATIENCE_SECONDS
        while True:
            self._taken_at = monotonic()
            arguments = [self.id, int(CLAIM_SECONDS * 1000), *self._levels]
            (code, *_) = scripts.run(self._redis, "claim", self._partition, *arguments)
            if code == b"ok":
                return
            if code != b"busy" or monotonic() > give_up_at:
                raise refusal(code.decode(), [])
            sleep(random.uniform(*PAUSE_SECONDS))  # noqa: S311 - no secret

    def require(self) -> None:
        """Raises IntakeUnavailable where it may run out before what it was taken for is done."""
        if monotonic() - self._taken_at > SAFE_SECONDS:
            raise refusal("unclaimed", [])

    def give_back(self) -> None:
        with suppress(IntakeUnavailable):  # then it runs out
            scripts.run(self._redis, "unclaim", self._partition, self.id, *self._levels)


def _flat(levels: Sequence[tuple[str, str]]) -> list[Any]:
    return [len(levels), *(text for level in levels for text in level)]


def _identities(run: Run) -> list[str]:
    return [text for event in run.events for text in (event.digest, event.payload)]
