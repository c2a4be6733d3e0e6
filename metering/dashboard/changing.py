"""A change that a logged-in user makes on a page."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from metering.accounts import changes
from metering.accounts.customers import lock_customer
from metering.dashboard.access import Access, current_metering
from metering.errors import IntakeUnavailable
from metering.models import Customer


@dataclass(frozen=True, slots=True)
class Change(changes.Change):
    """`customer` is that of the page, held by this transaction alone."""

    customer: Customer


@contextmanager
def changing(access: Access) -> Iterator[Change]:
    """Commits at its end; the change holds in every process at once. Check first that the user may make it.

    Raises IntakeUnavailable while PostgreSQL is away.
    """
    if access.remembered:
        raise IntakeUnavailable("the database does not answer")
    with changes.change(current_metering().runtime, f"user:{access.user.email}") as begun:
        customer = lock_customer(begun.session, access.customer_key)
        yield Change(begun.session, begun.now, begun.actor, customer)
