"""API keys: made with a secret that is shown once, revoked for good."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from metering.errors import MeteringError, NotFound
from metering.ids import NewKey, new_api_key
from metering.intake.values import Caller
from metering.models import ApiKey, Customer

DEFAULT_SCOPES = ("meter", "usage:read")
CUSTOMER_SCOPES = (*DEFAULT_SCOPES, "admin")
"""What owners and admins of a customer may grant."""

OPERATOR_SCOPES = ("events:write",)
SCOPES = CUSTOMER_SCOPES + OPERATOR_SCOPES


class InvalidKey(MeteringError):
    code = "invalid-key"


def create_key(
    session: Session,
    customer: Customer | None,
    *,
    name: str,
    scopes: Sequence[str],
    now: datetime,
    by_operator: bool = False,
) -> tuple[ApiKey, NewKey]:
    """A new key of `customer`, or of the operators (None), and its secret.

    Raises:
        InvalidKey: no name, an unknown scope, or one that only operators grant.
    """
    if not name.strip() or not name.isprintable():
        raise InvalidKey("a key needs a name in plain characters, so that people know what it is for", field="name")
    grantable = SCOPES if by_operator else CUSTOMER_SCOPES
    wrong = [scope for scope in scopes if scope not in grantable]
    if wrong or not scopes:
        raise InvalidKey(f"the scopes must be some of: {', '.join(grantable)}", field="scopes", wrong=wrong)
    made = new_api_key(customer.partition if customer else 0)
    key = ApiKey(
        customer_id=customer.id if customer else None,
        name=name.strip(),
        prefix=made.prefix,
        digest=made.digest,
        partition=customer.partition if customer else 0,
        scopes=list(dict.fromkeys(scopes)),
        created_at=now,
    )
    session.add(key)
    session.flush()
    return key, made


def revoke_key(session: Session, customer: Customer, key_id: int, *, now: datetime) -> ApiKey:
    """Raises NotFound, also for a key that is another customer's."""
    key = session.scalars(select(ApiKey).where(ApiKey.id == key_id, ApiKey.customer_id == customer.id)).one_or_none()
    if key is None:
        raise NotFound("there is no such key", key=key_id)
    key.revoked_at = key.revoked_at or now
    session.flush()
    return key


def keys_of(session: Session, customer: Customer) -> Sequence[ApiKey]:
    return session.scalars(select(ApiKey).where(ApiKey.customer_id == customer.id).order_by(ApiKey.id.desc())).all()


def find_caller(session: Session, digest: str) -> Caller | None:
    """Who carries a key, for the case that Redis cannot tell; None for one that is unknown, revoked or suspended."""
    row = session.execute(
        select(ApiKey, Customer.key)
        .outerjoin(Customer, Customer.id == ApiKey.customer_id)
        .where(ApiKey.digest == digest, ApiKey.revoked_at.is_(None))
        .where(or_(Customer.id.is_(None), Customer.status == "active"))
    ).one_or_none()
    return None if row is None else Caller(row[1] or "", row[0].id, frozenset(row[0].scopes))
