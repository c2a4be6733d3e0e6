"""The keeper: the loop that must never be late. It drains the streams, rebuilds counters that Redis lost, sends changed
state to Redis, releases held events and feeds the inbox. Any number may run side by side.

A fault in one step never stops the others: it is logged, and the step is tried again.
"""

import threading
from collections.abc import Callable
from time import monotonic

import structlog
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from metering.billing import spending
from metering.errors import MeteringError
from metering.failpoints import visit
from metering.intake import scripts
from metering.limits import alerts
from metering.notify.crossings import tell_of_alerts
from metering.runtime import Runtime
from metering.store import held, inbox
from metering.store.drain import drain
from metering.store.rebuild import open_partition, rebuild
from metering.store.state import send_unsent, touch_outdated

IDLE_SECONDS = 0.1
UPKEEP_SECONDS = 0.4
FULL_PASS_SECONDS = 2.0  # after which partitions are looked at even if nothing seems to have arrived
FAULT_SECONDS = 1.0

log = structlog.get_logger("metering.keeper")


class Keeper:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._stop = threading.Event()
        self._seen: list[bytes | None] = []

    def stop(self) -> None:
        """Finish the step at hand, then end `run`."""
        self._stop.set()

    def run(self) -> None:
        """Keep until stopped. However much there is to drain, the rest is seen to several times a second."""
        last_upkeep = last_pass = 0.0
        self._guarded("check_terms", self.check_terms)
        while not self._stop.is_set():
            healthy = True
            if monotonic() - last_upkeep >= UPKEEP_SECONDS:
                last_upkeep = monotonic()
                healthy = self._guarded("send_state", self.send_state)
                healthy = self._guarded("release_held", self.release_held) and healthy
                healthy = self._guarded("feed_inbox", self.feed_inbox) and healthy
            if self._has_news() or monotonic() - last_pass >= FULL_PASS_SECONDS:
                last_pass = monotonic()
                healthy = self._guarded("drain", self.drain_for_a_while) and healthy
            self._stop.wait(IDLE_SECONDS if healthy else FAULT_SECONDS)

    def drain_for_a_while(self) -> int:
        """Drain until nothing waits, or it is time to see to the rest; how much was written."""
        written, until = 0, monotonic() + UPKEEP_SECONDS
        while drained := self.drain_once():
            written += drained
            if monotonic() >= until or self._stop.is_set():
                self._seen = []  # there may be more: look again at once
                break
        return written

    def drain_all(self) -> int:
        """Drain until nothing waits; how much was written."""
        written = 0
        while drained := self.drain_once():
            written += drained
        return written

    def drain_once(self) -> int:
        """One batch, with the alerts it sets off, in one transaction; what it wrote (0: nothing waits)."""
        runtime = self._runtime
        runtime.refresh_meters()
        now = runtime.clock()
        with runtime.transaction() as session:
            drained = drain(session, runtime.redis, now=now)
            crossed = [
                *alerts.detect(session, runtime.catalog, drained.stored, now=now),
                *spending.detect_in_batch(session, runtime.catalog, drained.stored, now=now),
            ]
            tell_of_alerts(session, runtime.catalog, crossed, pages_url=runtime.settings.pages_url, now=now)
        visit("drain.committed")
        for partition in drained.lost:
            self.rebuild(partition)
        if drained.stored.faults:
            log.warning("set_aside", messages=len(drained.stored.faults))
        runtime.tally.drained(drained.stored.fresh, now)
        return drained.stored.fresh + drained.stored.corrections + int(drained.busy)

    def rebuild(self, partition: int, *, force: bool = False) -> None:
        """Rebuild one partition's counters, if they are lost or `force` says so, and let admission in again."""
        runtime = self._runtime
        runtime.refresh_meters()
        now = runtime.clock()
        with runtime.transaction() as session:
            generation = rebuild(session, runtime.redis, runtime.catalog, partition, now=now, force=force)
        visit("rebuild.committed")
        if generation is not None:
            open_partition(runtime.redis, partition, generation)
            log.info("rebuilt", partition=partition, generation=generation)

    def check_terms(self) -> int:
        """Have sent anew what another process sent by an older catalog since the last `metering init`."""
        with self._runtime.transaction() as session:
            return touch_outdated(session, self._runtime.catalog)

    def send_state(self) -> int:
        runtime = self._runtime
        runtime.refresh_meters()
        with runtime.transaction() as session:
            return send_unsent(session, runtime.redis, runtime.catalog, now=runtime.clock())

    def release_held(self) -> int:
        """Hand on events that were held for a customer or a meter that is known by now."""
        runtime = self._runtime
        with runtime.transaction() as session:
            return held.release(session, runtime.intake, runtime.catalog, now=runtime.clock())

    def feed_inbox(self) -> int:
        runtime = self._runtime
        runtime.refresh_meters()
        window = runtime.settings.identity_window_seconds
        with runtime.transaction() as session:
            return inbox.feed(session, runtime.intake, now=runtime.clock(), identity_window_seconds=window)

    def _has_news(self) -> bool:
        """Whether any partition's sequence has moved since the last look: one round trip, no transaction."""
        keys = [scripts.prefix(number) + "seq" for number in range(self._runtime.settings.partitions)]
        try:
            pipe = self._runtime.redis.pipeline(transaction=False)
            for key in keys:
                pipe.get(key)
            seen = pipe.execute()
        except RedisError:
            return True  # the drain meets the same fault, and reports it
        news = seen != self._seen
        self._seen = seen
        return news

    def _guarded(self, step: str, work: Callable[[], int]) -> bool:
        try:
            work()
        except (MeteringError, SQLAlchemyError, RedisError) as error:
            log.warning("step_failed", step=step, error=type(error).__name__, detail=str(error).splitlines()[0])
            return False
        except Exception:  # a mistake of ours in one step must not end the others, nor the process
            log.exception("step_failed", step=step)
            return False
        return True
