"""Invitations to a customer, by e-mail: sent, sent again, withdrawn, accepted once, which takes a seat.

Whoever calls holds the customer, so that of two acceptances at once one comes second.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.accounts.credentials import BadToken
from metering.accounts.users import InvalidUser, normal_email
from metering.errors import Conflict, NotFound
from metering.ids import NewToken, key_digest, new_token
from metering.models import ROLES, Customer, Invitation, Membership, User

KEPT = timedelta(days=7)
MOST_OPEN = 100
"""At a time; they are on one page."""


def invite(
    session: Session, customer: Customer, email: str, role: str, *, by: str, now: datetime
) -> tuple[Invitation, NewToken]:
    """An invitation and the token of its link. `by`: the e-mail address of who invites.

    Raises:
        InvalidUser: no address, or no role. Conflict: a member, or invited already; or too many are open.
    """
    address = normal_email(email)
    if role not in ROLES:
        raise InvalidUser(f"the role must be one of {', '.join(ROLES)}", field="role")
    member = select(Membership.id).join(User).where(Membership.customer_id == customer.id, User.email == address)
    if session.scalar(member) is not None:
        raise Conflict(f"{address} is a member already", field="email")
    waiting = open_invitations(session, customer)
    if any(one.email == address for one in waiting):
        raise Conflict(f"{address} is invited already: send it again, or withdraw it", field="email")
    if len(waiting) >= MOST_OPEN:
        raise Conflict(f"{MOST_OPEN} invitations are open: withdraw some first", field="email")
    token = new_token()
    invitation = Invitation(
        customer_id=customer.id,
        email=address,
        role=role,
        invited_by=by,
        digest=token.digest,
        created_at=now,
        expires_at=now + KEPT,
    )
    session.add(invitation)
    session.flush()
    return invitation, token


def renew(session: Session, customer: Customer, invitation_id: int, *, now: datetime) -> tuple[Invitation, NewToken]:
    """Another token, from now on; the one before works no more. Raises NotFound."""
    invitation, token = find_invitation(session, customer, invitation_id), new_token()
    invitation.digest, invitation.expires_at = token.digest, now + KEPT
    session.flush()
    return invitation, token


def withdraw(session: Session, customer: Customer, invitation_id: int, *, now: datetime) -> Invitation:
    """Raises NotFound."""
    invitation = find_invitation(session, customer, invitation_id)
    invitation.withdrawn_at = now
    session.flush()
    return invitation


def find_invitation(session: Session, customer: Customer, invitation_id: int) -> Invitation:
    """One that is open. Raises NotFound, also for another customer's."""
    query = select(Invitation).where(Invitation.id == invitation_id, Invitation.customer_id == customer.id)
    found = session.scalars(query.execution_options(populate_existing=True)).one_or_none()
    if found is None or found.accepted_at is not None or found.withdrawn_at is not None:
        raise NotFound("there is no such invitation", invitation=invitation_id)
    return found


def open_invitations(session: Session, customer: Customer) -> Sequence[Invitation]:
    """Those that wait for an answer, the expired ones too, in the order in which they were made."""
    query = select(Invitation).where(Invitation.customer_id == customer.id)
    query = query.where(Invitation.accepted_at.is_(None), Invitation.withdrawn_at.is_(None))
    return session.scalars(query.order_by(Invitation.id)).all()


def invited_to(session: Session, token: str, *, now: datetime) -> tuple[Invitation, Customer]:
    """What a link leads to. Raises BadToken for one that was used, withdrawn, sent anew or has expired."""
    query = select(Invitation, Customer).join(Customer, Customer.id == Invitation.customer_id)
    query = query.where(Invitation.digest == key_digest(token))
    row = session.execute(query.execution_options(populate_existing=True)).one_or_none()
    if row is None or row[0].accepted_at or row[0].withdrawn_at or row[0].expires_at <= now:
        raise BadToken("this invitation was used or withdrawn, or has expired")
    return row[0], row[1]
