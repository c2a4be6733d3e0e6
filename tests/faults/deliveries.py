"""The stand-in's webhooks in every disorder, and their processing: interrupted, killed, failing."""

import random
import signal
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from metering import failpoints
from metering.models import StripeEvent
from metering.runtime import Runtime, build_runtime
from metering.settings import load_settings
from metering.stripe_sync.processing import process, process_due
from tests.factories.forks import FORKS
from tests.factories.shop import announce_to
from tests.factories.standin import StandinProcess
from tests.factories.world import World

PLACES = ("stripe.event_claimed", "stripe.event_followed")
NOBODY = "http://127.0.0.1:9"
"""An address at which nobody answers."""


@dataclass
class Deliveries:
    """Nothing goes out by itself, and nothing is processed by itself."""

    world: World
    standin: StandinProcess
    runtime: Runtime
    settings: dict[str, Any]
    url: str
    random: random.Random
    done: Counter[str]

    def open(self) -> "Deliveries":
        self.standin.set("webhooks", hold=True)
        announce_to(self.standin, self.url)
        return self

    def pending(self) -> list[str]:
        return [one["id"] for one in self.standin.inspect("webhooks?status=pending")["deliveries"]]

    def shuffled(self) -> None:
        """Some of what waits, newer before older; the rest is held back."""
        if ids := self._some():
            self.done["webhooks shuffled"] += 1
            self.deliver(ids)

    def twice(self) -> None:
        if ids := self._some():
            self.done["webhooks twice"] += 1
            self.deliver(ids, copies=2)

    def answers_dropped(self) -> None:
        """They came, and Stripe does not know: they come again."""
        if ids := self._some():
            self.done["webhook answers dropped"] += 1
            self.standin.set("webhooks", drop_answers=len(ids))
            self.deliver(ids)
            self.standin.set("webhooks", drop_answers=0)

    def lost(self) -> None:
        """Nobody answers: they wait until they are sent again."""
        if ids := self._some():
            self.done["webhooks lost"] += 1
            announce_to(self.standin, NOBODY)
            self.deliver(ids)
            announce_to(self.standin, self.url)

    def again(self) -> None:
        """What was delivered long ago."""
        delivered = [one["id"] for one in self.standin.inspect("webhooks?status=delivered")["deliveries"]]
        if delivered:
            self.done["old webhooks again"] += 1
            self.deliver(self.random.sample(delivered, min(len(delivered), 5)))

    def deliver(self, ids: list[str], copies: int = 1) -> None:
        self.random.shuffle(sendings := ids * copies)
        self.standin.set("webhooks/deliver", ids=sendings)

    def process(self) -> None:
        """Those whose turn it is, in any order."""
        self.done["processed"] += 1
        waiting = [event.id for event in self.waiting()]
        self.random.shuffle(waiting)
        for row_id in waiting:
            process(self.runtime, row_id)
        self._settled()

    def process_in_outage(self) -> None:
        """Stripe goes away when some were followed."""
        if self.waiting(due=True):
            kind = self.random.choice(("outage", "reset", "error_500", "rate_limit", "drop_answer"))
            self.standin.set("faults", kind=kind, method="GET", times=self.random.randint(1, 8))
            process_due(self.runtime)
            self.standin.lift_faults()
            self.done["processing failed"] += any(event.reason for event in self.waiting())
            self._settled()

    def process_and_die(self) -> None:
        if self.waiting(due=True):
            place = min(PLACES, key=lambda place: self.done[f"killed at {place}"])
            failpoint = f"{place}:{self.random.randint(1, 2)}"
            process = FORKS.Process(target=process_once, args=(self.settings, self.world.now, failpoint))
            process.start()
            process.join(60)
            assert process.exitcode is not None, "the processing does not end"
            self.done[f"killed at {place}"] += process.exitcode == -signal.SIGKILL
            self._settled()

    def waiting(self, *, due: bool = False) -> list[StripeEvent]:
        session = self.world.session
        session.commit()
        query = session.query(StripeEvent).filter(StripeEvent.state == "waiting")
        found = query.execution_options(populate_existing=True).all()
        return [event for event in found if not due or event.next_try_at <= self.world.now]

    def given_up(self) -> int:
        return self.world.session.query(StripeEvent).filter(StripeEvent.state == "failed").count()

    def _some(self) -> list[str]:
        pending = self.pending()
        return self.random.sample(pending, self.random.randint(1, len(pending))) if pending else []

    def _settled(self) -> None:
        self.world.session.commit()
        self.world.session.expire_all()
        self.world.send()


def process_once(settings: dict[str, Any], now: datetime, failpoint: str) -> None:
    failpoints.arm(failpoint)
    process_due(build_runtime(load_settings(**settings), clock=lambda: now))
