"""How fast Stripe is called: token buckets in Redis, shared by all workers that report to one account.

Source of the limits: Stripe's page "Rate limits". Meter events: 1,000 a second in live mode; all else 100; in a sandbox
25 altogether. Ours stay below, because Stripe counts what anybody else does with the account as well.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from redis import Redis
from redis.commands.core import Script

Kind = Literal["events", "calls"]
"""Meter events have a limit of their own; `calls` are all others."""

RATES: dict[str, dict[Kind, float]] = {
    "test": {"events": 14.0, "calls": 6.0},
    "live": {"events": 800.0, "calls": 80.0},
    "standin": {"events": 800.0, "calls": 80.0},
}
"""Calls a second, by mode."""

LONGEST_WAIT_SECONDS = 2.0
FIRST_DELAY_SECONDS = 5.0
MAX_DELAY_SECONDS = 600.0

Jitter = Callable[[], float]
"""Random numbers in [0, 1)."""


def delay_seconds(attempt: int, jitter: Jitter) -> float:
    """How long to wait after the `attempt`th failure: doubling, at most ten minutes, and anywhere in its upper half.

    Source: Stripe's page "Rate limits": exponential back-off with randomness, as a 429 carries no Retry-After.
    """
    longest: float = min(MAX_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(attempt - 1, 20))
    return longest * (0.5 + 0.5 * jitter())


class Throttle(Protocol):
    """Raises RedisError."""

    def take(self, kind: Kind) -> bool:
        """Wait for a turn; False when that would take too long, so that the run should end."""

    def back_off(self, jitter: Jitter) -> None:
        """Let nobody call for a while, the longer the more often Stripe asked for less."""


class Unthrottled:
    """For tests and for a single call."""

    def take(self, kind: Kind) -> bool:
        return True

    def back_off(self, jitter: Jitter) -> None:
        """Nobody listens."""


@dataclass
class SharedThrottle:
    """`account` as the ledger names it: its mode decides the rates that `rates` does not give. Raises RedisError.

    A bucket holds a tenth of a second's calls, at least one, so that no second sees more than 1.1 times its rate.
    """

    redis: Redis
    account: str
    rates: dict[Kind, float] = field(default_factory=dict)
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        self.rates = RATES[self.account.split(":")[0]] | self.rates
        lua = Path(__file__).with_name("take_token.lua").read_text("utf-8")
        self._script: Script = self.redis.register_script(lua)

    def take(self, kind: Kind) -> bool:
        waited = 0.0
        while wait := self.wait_seconds(kind):
            waited += wait
            if waited > LONGEST_WAIT_SECONDS:
                return False
            self.sleep(wait)
        return True

    def wait_seconds(self, kind: Kind) -> float:
        """0 with a token taken, or how long until there is one."""
        rate = self.rates[kind]
        keys = [f"stripe:{{{self.account}}}:{kind}", self._paused]
        return float(self._script(keys=keys, args=[1000 / rate, max(1, round(rate / 10))])) / 1000

    def back_off(self, jitter: Jitter) -> None:
        strikes_key = f"stripe:{{{self.account}}}:strikes"
        strikes = int(self.redis.incr(strikes_key))
        seconds = delay_seconds(strikes, jitter)
        self.redis.expire(strikes_key, round(2 * seconds) + 30)  # a while without a refusal, and all is forgotten
        self.redis.set(self._paused, "1", px=round(seconds * 1000))

    @property
    def _paused(self) -> str:
        return f"stripe:{{{self.account}}}:paused"
