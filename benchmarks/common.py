"""What the benchmarks share: a product of its own on embedded servers, and results as ratios to a bound."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text

from metering.accounts.customers import create_customer
from metering.accounts.keys import create_key
from metering.clock import Clock, utc_now
from metering.embedded import Embedded
from metering.initialise import initialise
from metering.keeper import Keeper
from metering.models import Customer
from metering.runtime import Runtime, build_runtime
from metering.settings import load_settings


@dataclass(frozen=True, slots=True)
class Result:
    """`value` is what is judged: `bound` is the most (or, with `at_least`, the least) it may be."""

    question: str
    ours: str
    peer: str
    value: float
    bound: float
    at_least: bool = False

    @property
    def holds(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound


@contextmanager
def product(clock: Clock = utc_now) -> Iterator[Runtime]:
    """An initialised product on servers of its own, gone afterwards."""
    with tempfile.TemporaryDirectory() as folder, Embedded(Path(folder)):
        runtime = build_runtime(load_settings(env="development", home=Path(folder)), clock=clock)
        try:
            initialise(runtime, report=lambda _: None)
            yield runtime
        finally:
            runtime.close()


def make_customer(runtime: Runtime, key: str, plan: str = "enterprise") -> tuple[Customer, str]:
    """A customer and the secret of a key of it."""
    with runtime.transaction() as session:
        customer = create_customer(
            session,
            runtime.catalog,
            key=key,
            name=key,
            plan=plan,
            partitions=runtime.settings.partitions,
            now=runtime.clock(),
        )
        _, made = create_key(session, customer, name="bench", scopes=["meter", "usage:read"], now=runtime.clock())
    Keeper(runtime).send_state()
    return customer, made.secret


def median_micros(work: Callable[[], object], times: int) -> float:
    """The median time of one run of `work`, in microseconds."""
    samples = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        samples.append(time.perf_counter() - started)
    return statistics.median(samples) * 1e6


def alternate(works: Sequence[Callable[[], object]], times: int) -> list[float]:
    """The median time of one run of each of `works`, in microseconds, taken in turns: what else the machine does
    meanwhile falls on all of them.
    """
    samples: list[list[float]] = [[] for _ in works]
    for _ in range(times):
        for work, taken in zip(works, samples, strict=True):
            started = time.perf_counter()
            work()
            taken.append(time.perf_counter() - started)
    return [statistics.median(taken) * 1e6 for taken in samples]


def empty_usage(runtime: Runtime) -> None:
    with runtime.transaction() as session:
        session.execute(text("TRUNCATE events, identities, rollups, period_totals, levels, accruals, corrections"))
