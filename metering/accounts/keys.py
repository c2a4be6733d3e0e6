"""API keys: made with a secret that is shown once, replaced with an overlap, revoked for good."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from metering.errors import Conflict, MeteringError, NotFound, NotPermitted
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
    by: str | None = None,
) -> tuple[ApiKey, NewKey]:
    """A new key of `customer`, or of the operators (None), and its secret. `by`: who makes it, as the audit log says.

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
        created_by=by,
    )
    session.add(key)
    session.flush()
    return key, made


def rotate_key(
    session: Session,
    customer: Customer | None,
    key_id: int,
    *,
    overlap_seconds: int,
    now: datetime,
    by_operator: bool = False,
    by: str | None = None,
) -> tuple[ApiKey, NewKey]:
    """A new key with the name and scopes of one that works; that one stops `overlap_seconds` from now.

    Raises:
        NotFound: as `revoke_key`.
        Conflict: the key was revoked, or was replaced before, whether or not it still works.
        NotPermitted: it carries a scope that only operators grant: its successor would be one more to hold it.
    """
    old = _locked(session, customer, key_id)
    if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= now):
        raise Conflict("this key does not work any more; make a new one", key=key_id)
    if old.expires_at is not None:  # only a rotation sets it: a second successor would be a key that nobody asked for
        raise Conflict(
            f"this key was replaced before and stops at {old.expires_at.isoformat()}: replace its successor, or make a "
            "new key",
            key=key_id,
            expires_at=old.expires_at,
        )
    if not by_operator and not set(old.scopes) <= set(CUSTOMER_SCOPES):
        raise NotPermitted("only operators replace a key that carries a scope which they grant", key=key_id)
    old.expires_at = now + timedelta(seconds=overlap_seconds)
    old.state_version += 1
    return create_key(session, customer, name=old.name, scopes=old.scopes, now=now, by_operator=by_operator, by=by)


def revoke_key(session: Session, customer: Customer | None, key_id: int, *, now: datetime) -> ApiKey:
    """Revoke a key of `customer`, or of the operators (None); one that was revoked before stays so.

    Raises NotFound, also for a key that is another customer's.
    """
    key = _locked(session, customer, key_id)
    if key.revoked_at is None:
        key.revoked_at = now
        key.state_version += 1
        session.flush()
    return key


def keys_of(
    session: Session, customer: Customer | None, *, before: int | None = None, limit: int | None = None
) -> Sequence[ApiKey]:
    """The keys of a customer, or of the operators (None), newest first; those made before the one with id `before`."""
    query = select(ApiKey).where(_belongs_to(customer)).order_by(ApiKey.id.desc()).limit(limit)
    return session.scalars(query if before is None else query.where(ApiKey.id < before)).all()


def find_caller(session: Session, digest: str, *, now: datetime) -> Caller | None:
    """Who carries a key, for the case that Redis cannot tell; None for one that does not work or is suspended."""
    row = session.execute(
        select(ApiKey, Customer.key)
        .outerjoin(Customer, Customer.id == ApiKey.customer_id)
        .where(ApiKey.digest == digest, ApiKey.revoked_at.is_(None))
        .where(or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now))
        .where(or_(Customer.id.is_(None), Customer.status == "active"))
    ).one_or_none()
    return None if row is None else Caller(row[1] or "", row[0].id, frozenset(row[0].scopes))


def _locked(session: Session, customer: Customer | None, key_id: int) -> ApiKey:
    """The key as it stands, for this transaction alone to change: its version must rise with each change."""
    query = select(ApiKey).where(ApiKey.id == key_id, _belongs_to(customer)).with_for_update()
    key = session.scalars(query.execution_options(populate_existing=True)).one_or_none()
    if key is None:
        raise NotFound("there is no such key", key=key_id)
    return key


def _belongs_to(customer: Customer | None) -> ColumnElement[bool]:
    return ApiKey.customer_id.is_(None) if customer is None else ApiKey.customer_id == customer.id
