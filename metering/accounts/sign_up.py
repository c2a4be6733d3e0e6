"""Signing up: a user is made when the address is confirmed, with the password that was chosen, and never before.

So whoever signs up with another's address gets nothing: the link goes to that address, and asks for the password.
"""

import re
import secrets
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.accounts.changes import change
from metering.accounts.credentials import BadToken, WrongPassword
from metering.accounts.customers import checked_name, create_customer
from metering.accounts.in_force import count_seats
from metering.accounts.passwords import hash_password, verify_password
from metering.accounts.users import add_member, normal_email
from metering.errors import Conflict
from metering.ids import NewToken, key_digest, new_token
from metering.models import Customer, SignUp, User
from metering.runtime import Runtime
from metering.stripe_sync.plans import free_plan

KEPT = timedelta(days=1)
LONGEST_SLUG = 40


def ask_for_account(
    session: Session, *, email: str, password: str, name: str, organization: str, now: datetime
) -> tuple[NewToken, bool]:
    """The token for the link that confirms the address, and whether the address is somebody's already: then the link
    is to be sent to nobody. Both take as long.

    Raises InvalidUser, WeakPassword, InvalidCustomer.
    """
    address, token = normal_email(email), new_token()
    wanted = SignUp(
        email=address,
        name=name.strip(),
        organization=checked_name(organization, ""),
        password_hash=hash_password(password),
        digest=token.digest,
        created_at=now,
        expires_at=now + KEPT,
    )
    session.add(wanted)
    session.flush()
    return token, session.scalar(select(User.id).where(User.email == address)) is not None


def find_sign_up(session: Session, token: str, *, now: datetime) -> SignUp:
    """For this transaction alone. Raises BadToken."""
    query = select(SignUp).where(SignUp.digest == key_digest(token)).with_for_update()
    found = session.scalars(query.execution_options(populate_existing=True)).one_or_none()
    if found is None or found.used_at is not None or found.expires_at <= now:
        raise BadToken("this link was used, or has expired")
    return found


def confirm_sign_up(runtime: Runtime, token: str, password: str) -> User:
    """Make the user, and a customer on the free plan that is the user's.

    In two transactions, because a seat is taken of a customer that the intake knows. After a failure between them the
    link goes on where it was.

    Raises:
        BadToken, WrongPassword. Conflict: somebody has this address meanwhile.
        IntakeUnavailable: nothing can be counted at the moment.
    """
    with runtime.transaction() as session:
        wanted = find_sign_up(session, token, now=runtime.clock())
        if not verify_password(password, wanted.password_hash):
            raise WrongPassword("this is not the password you chose", field="password")
        actor = f"user:{wanted.email}"
    with change(runtime, actor) as begun:
        wanted = find_sign_up(begun.session, token, now=begun.now)
        _refuse_a_second(begun.session, wanted)
        if wanted.customer_id is None:
            customer = create_customer(
                begun.session,
                runtime.catalog,
                key=_free_key(begun.session, wanted.organization),
                name=wanted.organization,
                plan=free_plan(runtime.catalog),
                partitions=runtime.settings.partitions,
                now=begun.now,
            )
            wanted.customer_id = customer.id
            begun.note("customer.sign_up", customer, key=customer.key)
    with change(runtime, actor) as begun:
        wanted = find_sign_up(begun.session, token, now=begun.now)
        _refuse_a_second(begun.session, wanted)
        customer = begun.session.get_one(Customer, wanted.customer_id)
        user = User(email=wanted.email, name=wanted.name, password_hash=wanted.password_hash, created_at=begun.now)
        begun.session.add(user)
        begun.session.flush()
        add_member(begun.session, runtime.intake, runtime.catalog, customer, user, "owner", now=begun.now)
        wanted.used_at = begun.now
        begun.note("user.sign_up", customer, user=user.id)
    count_seats(runtime)
    return user


def _refuse_a_second(session: Session, wanted: SignUp) -> None:
    if session.scalar(select(User.id).where(User.email == wanted.email)) is not None:
        raise Conflict("there is an account with this address already: log in", field="email")


def _free_key(session: Session, name: str) -> str:
    """The name in letters and digits; with something random behind it where another customer has that key."""
    key = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:LONGEST_SLUG].strip("-") or "customer"
    taken = session.scalar(select(Customer.id).where(Customer.key == key)) is not None
    return f"{key}-{secrets.token_hex(3)}" if taken else key
