"""What the pages about people show, as frozen values."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from metering import humanize
from metering.accounts.user_agents import in_words
from metering.dashboard.access import Access
from metering.models import Invitation, Membership, UserSession

ROLE_HELP = {
    "owner": "Everything, and decides who is an owner.",
    "admin": "Manages keys, members, plan and settings.",
    "member": "Sees everything, dismisses alerts.",
    "viewer": "Sees everything, changes nothing.",
}


@dataclass(frozen=True, slots=True)
class SessionView:
    id: int
    browser: str
    address: str
    seen_at: datetime
    seen_text: str
    created_at: datetime
    created_text: str
    is_this: bool


def session_views(rows: Sequence[UserSession], this: int, now: datetime) -> tuple[SessionView, ...]:
    return tuple(
        SessionView(
            id=row.id,
            browser=in_words(row.user_agent),
            address=row.address,
            seen_at=row.last_seen_at,
            seen_text=humanize.relative(row.last_seen_at, now).capitalize(),
            created_at=row.created_at,
            created_text=humanize.relative(row.created_at, now).capitalize(),
            is_this=row.id == this,
        )
        for row in rows
    )


@dataclass(frozen=True, slots=True)
class MemberView:
    """`may_change`: whoever looks may give this member another role, or take it out."""

    user_id: int
    name: str
    email: str
    role: str
    joined_at: datetime
    joined_text: str
    two_step: bool
    is_you: bool
    may_change: bool


@dataclass(frozen=True, slots=True)
class InvitationView:
    id: int
    email: str
    role: str
    invited_by: str
    sent_at: datetime
    sent_text: str
    expires_text: str
    is_over: bool
    may_change: bool


@dataclass(frozen=True, slots=True)
class SeatsView:
    """`limit` is None where the plan has none; `left` then, too. `price`: a sentence on what seats cost, or empty."""

    used: int
    limit: int | None
    open_invitations: int
    price: str

    @property
    def left(self) -> int | None:
        return None if self.limit is None else max(self.limit - self.used, 0)


def may_touch(access: Access, role: str) -> bool:
    """Admins neither make nor remove owners."""
    return access.may_manage_team and (role != "owner" or access.may_make_owners)


def roles_to_give(access: Access) -> tuple[tuple[str, str], ...]:
    return tuple((role, role.capitalize()) for role in ROLE_HELP if role != "owner" or access.may_make_owners)


def member_views(
    access: Access, rows: Sequence[Membership], two_step: Collection[int], now: datetime
) -> tuple[MemberView, ...]:
    return tuple(
        MemberView(
            user_id=row.user_id,
            name=row.user.name or row.user.email,
            email=row.user.email,
            role=row.role,
            joined_at=row.created_at,
            joined_text=humanize.relative(row.created_at, now).capitalize(),
            two_step=row.user_id in two_step,
            is_you=row.user.email == access.user.email,
            may_change=may_touch(access, row.role),
        )
        for row in rows
    )


def invitation_views(access: Access, rows: Sequence[Invitation], now: datetime) -> tuple[InvitationView, ...]:
    return tuple(
        InvitationView(
            id=row.id,
            email=row.email,
            role=row.role,
            invited_by=row.invited_by,
            sent_at=row.created_at,
            sent_text=humanize.relative(row.created_at, now).capitalize(),
            expires_text=("Expired" if row.expires_at <= now else f"Expires {humanize.relative(row.expires_at, now)}"),
            is_over=row.expires_at <= now,
            may_change=may_touch(access, row.role),
        )
        for row in rows
    )
