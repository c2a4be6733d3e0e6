"""A change that somebody makes: one transaction, written down in the audit log, in force as soon as it is committed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from metering.accounts.in_force import put_in_force
from metering.models import AuditEntry, Customer
from metering.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Change:
    """A transaction that is under way. `actor`: who makes it, "user:EMAIL" on pages, "key:ID" through the API."""

    session: Session
    now: datetime
    actor: str

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
def change(runtime: Runtime, actor: str) -> Iterator[Change]:
    """Commits at its end, then sends what the intake must know: the change holds in every process at once."""
    with runtime.transaction() as session:
        yield Change(session, runtime.clock(), actor)
    put_in_force(runtime)
