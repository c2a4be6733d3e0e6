"""A change that the API makes: one transaction, written down in the audit log, in force as soon as it is committed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from metering.accounts.customers import lock_customer
from metering.accounts.in_force import put_in_force
from metering.api.auth import current_caller, current_metering, customer_in_reach
from metering.models import AuditEntry, Customer


@dataclass(frozen=True, slots=True)
class Change:
    """A transaction that is under way. `actor` is the API key that asked for it."""

    session: Session
    now: datetime
    actor: str

    def customer(self, key: str) -> Customer:
        """The customer that is changed, held by this transaction alone. Raises UnknownCustomer, also for another's."""
        return lock_customer(self.session, customer_in_reach(key))

    def note(self, action: str, customer: Customer | None = None, **detail: Any) -> None:
        """Write down what was done. A change that is not noted here is a mistake."""
        self.session.add(
            AuditEntry(
                at=self.now,
                actor=self.actor,
                action=action,
                customer_id=customer.id if customer else None,
                detail=detail,
            )
        )


@contextmanager
def changing() -> Iterator[Change]:
    """Commits at its end, then sends what the intake must know: the change holds in every process at once."""
    runtime = current_metering().runtime
    with runtime.transaction() as session:
        yield Change(session, runtime.clock(), f"key:{current_caller().key_id}")
    put_in_force(runtime)
