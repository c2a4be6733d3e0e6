"""Users and the customers they belong to. Seats follow the memberships."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from sqlalchemy import Select, select
from sqlalchemy.event import listen
from sqlalchemy.orm import Session, joinedload

from metering.accounts.passwords import hash_password, verify_password
from metering.billing.periods import lock_customers
from metering.catalog import Catalog
from metering.clock import to_micros
from metering.errors import Conflict, IntakeUnavailable, InvalidUsage, MeteringError, NotFound
from metering.ids import new_id
from metering.intake.admission import Intake
from metering.intake.event import UsageEvent, make_event
from metering.intake.values import Admission, Ask
from metering.models import ROLES, Customer, Membership, User
from metering.store import inbox

SEATS = "seats"
SEAT_IDENTITY_SECONDS = 24 * 3600


class InvalidUser(MeteringError):
    code = "invalid-user"


class UnknownUser(MeteringError):
    """Nobody logs in with this e-mail address."""

    code = "unknown-user"


def create_user(session: Session, *, email: str, password: str, name: str = "", operator: bool = False) -> User:
    """Raises InvalidUser, WeakPassword, Conflict."""
    address = normal_email(email)
    if session.scalar(select(User.id).where(User.email == address)) is not None:
        raise Conflict(f"there is a user {address} already", email=address)
    user = User(email=address, password_hash=hash_password(password), name=name.strip(), operator=operator)
    session.add(user)
    session.flush()
    return user


def find_user(session: Session, email: str) -> User:
    """Raises UnknownUser, and InvalidUser for what cannot be an address."""
    address = normal_email(email)
    user = session.scalars(select(User).where(User.email == address)).one_or_none()
    if user is None:
        raise UnknownUser(f"there is no user {address}", email=address)
    return user


def normal_email(email: str) -> str:
    """Raises InvalidUser for what cannot be an address."""
    address = email.strip().lower()
    local, _, domain = address.rpartition("@")
    if not local or "." not in domain or len(address) > 254 or any(sign.isspace() for sign in address):
        raise InvalidUser(f"{email!r} is no e-mail address", field="email")
    return address


def log_in(session: Session, email: str, password: str) -> User | None:
    """The user with this e-mail and password, else None; takes equally long either way."""
    email = email.replace("\x00", "")  # no address holds one, and PostgreSQL takes none
    user = session.scalars(select(User).where(User.email == email.strip().lower())).one_or_none()
    return user if verify_password(password, user.password_hash if user else None) else None


def add_member(
    session: Session, intake: Intake, catalog: Catalog, customer: Customer, user: User, role: str, *, now: datetime
) -> Membership:
    """Make a user a member of a customer, which takes a seat.

    The seat is checked against the limit first and recorded in the same transaction as the membership.

    Raises:
        InvalidUser: an unknown role. Conflict: already a member.
        LimitExceeded: no seat is left. IntakeUnavailable: nobody can tell.
    """
    if role not in ROLES:
        raise InvalidUser(f"the role must be one of {', '.join(ROLES)}", field="role")
    lock_customers(session, [customer.id])
    if session.scalar(_membership_query(customer.id, user.id)) is not None:
        raise Conflict(f"{user.email} is a member already", email=user.email)
    if SEATS in catalog.meters:
        # Seats that were taken but not counted yet must be seen by the check, however late the keeper is.
        inbox.feed(session, intake, now=now, identity_window_seconds=SEAT_IDENTITY_SECONDS)
    held = _hold_a_seat(intake, customer, now) if SEATS in catalog.meters else None
    membership = Membership(customer_id=customer.id, user_id=user.id, role=role, created_at=now)
    session.add(membership)
    session.flush()
    event = _record_seat(session, intake, catalog, customer, membership, 1, now)
    if held and event:
        _count_when_committed(session, intake, held, event, now)
    return membership


def remove_member(
    session: Session, intake: Intake, catalog: Catalog, customer: Customer, user_id: int, *, now: datetime
) -> None:
    """Raises NotFound, and Conflict for the last owner."""
    lock_customers(session, [customer.id])
    membership = find_member(session, customer, user_id)
    _keep_an_owner(session, membership)
    _record_seat(session, intake, catalog, customer, membership, -1, now)
    session.delete(membership)
    session.flush()


def change_role(session: Session, customer: Customer, user_id: int, role: str) -> Membership:
    """Raises InvalidUser, NotFound, and Conflict for the last owner, who can become nothing else."""
    if role not in ROLES:
        raise InvalidUser(f"the role must be one of {', '.join(ROLES)}", field="role")
    lock_customers(session, [customer.id])
    membership = find_member(session, customer, user_id)
    if role != "owner":
        _keep_an_owner(session, membership)
    membership.role = role
    session.flush()
    return membership


def find_member(session: Session, customer: Customer, user_id: int) -> Membership:
    """With its user, as it is stored now. Raises NotFound."""
    query = _membership_query(customer.id, user_id).options(joinedload(Membership.user))
    membership = session.scalars(query.execution_options(populate_existing=True)).one_or_none()
    if membership is None:
        raise NotFound("there is no such member", user=user_id)
    return membership


def members_of(session: Session, customer: Customer, *, after: int | None, limit: int) -> Sequence[Membership]:
    """The members of a customer with their users, in the order in which they joined; those behind the id `after`."""
    query = select(Membership).where(Membership.customer_id == customer.id, Membership.id > (after or 0))
    return session.scalars(query.options(joinedload(Membership.user)).order_by(Membership.id).limit(limit)).all()


def customers_of(session: Session, user: User) -> Sequence[Membership]:
    """A user's memberships with their customers, oldest first."""
    query = select(Membership).where(Membership.user_id == user.id).order_by(Membership.id)
    return session.scalars(query.options(joinedload(Membership.customer))).all()


def _keep_an_owner(session: Session, membership: Membership) -> None:
    """Raises Conflict. Whoever calls holds the customer: two owners who leave at once would each see the other."""
    others = select(Membership.id).where(
        Membership.customer_id == membership.customer_id, Membership.role == "owner", Membership.id != membership.id
    )
    if membership.role == "owner" and session.scalar(others.limit(1)) is None:
        raise Conflict("a customer keeps at least one owner")


def _membership_query(customer_id: int, user_id: int) -> Select[Membership]:
    return select(Membership).where(Membership.customer_id == customer_id, Membership.user_id == user_id)


def _hold_a_seat(intake: Intake, customer: Customer, now: datetime) -> Admission:
    """It keeps the seat until the membership is committed; where that never happens, until its lease runs out."""
    ask = Ask(reserve={SEATS: 1}, customer=customer.key, is_call=False)
    held = intake.reserve(ask, rid=new_id(), partition=customer.partition, now=now)
    assert isinstance(held, Admission)  # only an Idempotency-Key is ever replayed
    return held


def _count_when_committed(session: Session, intake: Intake, held: Admission, event: UsageEvent, now: datetime) -> None:
    """Turn the held seat into a taken one. Where that fails the inbox does it: it holds the same event."""
    rolled_back = False

    def forget(_: Session) -> None:
        nonlocal rolled_back
        rolled_back = True

    def count(_: Session) -> None:
        if not rolled_back:
            with suppress(IntakeUnavailable, InvalidUsage):
                intake.settle(held, [event], now=now)

    listen(session, "after_rollback", forget, once=True)
    listen(session, "after_commit", count, once=True)


def _record_seat(
    session: Session,
    intake: Intake,
    catalog: Catalog,
    customer: Customer,
    membership: Membership,
    change: int,
    now: datetime,
) -> UsageEvent | None:
    if SEATS not in catalog.meters:
        return None
    event = make_event(
        catalog.meters[SEATS],
        customer=customer.key,
        quantity=change,
        source="members",
        id=f"{membership.id}:{'joined' if change > 0 else 'left'}",
        admitted=to_micros(now),
    )
    inbox.put(session, intake, [event])
    return event
