"""For the tests of an app that meters its endpoints: a pytest plugin, loaded by pytest where metering is installed.

    def test_completion_counts_its_tokens(client, metering_off):
        client.post("/complete", json={"prompt": "hello"})
        assert metering_off.quantities("tokens") == [12]

It brings fixtures only, so a test that asks for none of them is not touched by it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from metering.calls.rehearsal import Counted, Rehearsal


@dataclass(frozen=True)
class Recorded:
    """What would have been counted during a test."""

    _rehearsal: "Rehearsal"

    @property
    def counted(self) -> "list[Counted]":
        """One entry a call and meter, in the order in which the calls ended."""
        return self._rehearsal.counted

    def quantities(self, meter: str) -> list[Decimal]:
        return [one.quantity for one in self.counted if one.meter == meter]

    def total(self, meter: str) -> Decimal:
        return sum(self.quantities(meter), Decimal(0))


@pytest.fixture
def metering_off() -> Iterator[Recorded]:
    """Metered views run without API keys, limits, Redis or PostgreSQL; see what they would have counted.

    Calls that would not be charged (a 5xx, an exception, `charge_if`) leave no entry, as in earnest.
    """
    from metering.calls.rehearsal import rehearse  # here, so that pytest starts fast where nobody asks for it

    with rehearse() as rehearsal:
        yield Recorded(rehearsal)
