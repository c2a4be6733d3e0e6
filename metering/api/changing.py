"""A change that the API makes, in the name of the key that asked for it."""

from collections.abc import Iterator
from contextlib import contextmanager

from metering.accounts import changes
from metering.accounts.customers import lock_customer
from metering.api.auth import current_caller, current_metering, customer_in_reach
from metering.models import Customer


class Change(changes.Change):
    __slots__ = ()

    def customer(self, key: str) -> Customer:
        """The customer that is changed, held by this transaction alone. Raises UnknownCustomer, also for another's."""
        return lock_customer(self.session, customer_in_reach(key))


@contextmanager
def changing() -> Iterator[Change]:
    """Commits at its end; the change holds in every process at once."""
    with changes.change(current_metering().runtime, f"key:{current_caller().key_id}") as begun:
        yield Change(begun.session, begun.now, begun.actor)
