"""Members of a customer: the users who belong to it, and in which role. Seats follow them; the last owner stays."""

from collections.abc import Mapping
from typing import Literal, Self, cast

from flask import Blueprint

from metering.accounts.customers import find_customer
from metering.accounts.in_force import count_seats
from metering.accounts.users import add_member, change_role, find_member, find_user, members_of, remove_member
from metering.api.auth import current_metering, customer_in_reach
from metering.api.bodies import Body
from metering.api.changing import changing
from metering.api.operation import Answered, Example, operation
from metering.api.paging import PageQuery, page
from metering.api.preconditions import IF_MATCH, Tagged, require_match, tagged
from metering.api.shapes import EXAMPLE_CUSTOMER, Answer, Instant, Line, Page
from metering.models import Membership

blueprint = Blueprint("api_members", __name__, url_prefix="/api/v1")

MEMBERS = "/customers/<customer>/members"
MEMBER = f"{MEMBERS}/<int(max=9223372036854775807):user_id>"
DEMO = {"customer": EXAMPLE_CUSTOMER}
ONE_OF_DEMO: Mapping[str, str | Answered] = {**DEMO, "user_id": Answered("members_list_members", "user_id")}

Role = Literal["owner", "admin", "member", "viewer"]


class MemberAnswer(Answer):
    user_id: int
    email: str
    name: str
    role: Role
    joined_at: Instant

    @classmethod
    def of(cls, membership: Membership) -> Self:
        user = membership.user
        return cls(
            user_id=user.id,
            email=user.email,
            name=user.name,
            role=cast(Role, membership.role),
            joined_at=membership.created_at,
        )


@blueprint.get(MEMBERS)
@operation(
    "Members",
    scope="admin",
    query=PageQuery,
    answers=Page[MemberAnswer],
    refuses=("unknown-customer",),
    example=Example(path=DEMO),
)
def list_members(customer: str, query: PageQuery) -> Page[MemberAnswer]:
    """The members of a customer, in the order in which they joined."""
    with current_metering().runtime.transaction() as session:
        found = find_customer(session, customer_in_reach(customer))
        members = members_of(session, found, after=query.after_id, limit=query.limit + 1)
    return page(members, query, lambda one: one.id, MemberAnswer.of)


@blueprint.get(MEMBER)
@operation(
    "Members",
    scope="admin",
    answers=MemberAnswer,
    refuses=("unknown-customer", "not-found"),
    example=Example(path=ONE_OF_DEMO),
)
def read(customer: str, user_id: int) -> Tagged:
    """One member, with the ETag that If-Match takes."""
    with current_metering().runtime.transaction() as session:
        found = find_customer(session, customer_in_reach(customer))
        return tagged(MemberAnswer.of(find_member(session, found, user_id)))


class NewMember(Body):
    """`email`: that of a user who exists."""

    email: Line
    role: Role = "member"


@blueprint.post(MEMBERS)
@operation(
    "Members",
    scope="admin",
    body=NewMember,
    answers=MemberAnswer,
    status=201,
    refuses=("unknown-customer", "unknown-user", "invalid-user", "conflict", "limit-exceeded"),
    example=Example(
        path=DEMO, body={"email": "grace@example.org", "role": "member"}, status=201, after="customers_put_plan"
    ),
)
def add(customer: str, body: NewMember) -> Tagged:
    """Make a user a member, which takes a seat."""
    runtime = current_metering().runtime
    with changing() as change:
        found = change.customer(customer)
        user = find_user(change.session, body.email)
        catalog = runtime.catalog
        membership = add_member(change.session, runtime.intake, catalog, found, user, body.role, now=change.now)
        change.note("member.add", found, user=user.id, role=body.role)
        answer = MemberAnswer.of(membership)
    count_seats(runtime)
    return tagged(answer, 201)


class RoleChange(Body):
    role: Role


@blueprint.patch(MEMBER)
@operation(
    "Members",
    scope="admin",
    body=RoleChange,
    answers=MemberAnswer,
    refuses=("unknown-customer", "not-found", "conflict", "precondition-failed"),
    example=Example(path=ONE_OF_DEMO, body={"role": "owner"}),
    headers=(IF_MATCH,),
)
def update(customer: str, user_id: int, body: RoleChange) -> Tagged:
    """Give a member another role. The last owner stays one."""
    with changing() as change:
        found = change.customer(customer)
        require_match(MemberAnswer.of(find_member(change.session, found, user_id)))
        membership = change_role(change.session, found, user_id, body.role)
        change.note("member.change", found, user=user_id, role=body.role)
        return tagged(MemberAnswer.of(membership))


@blueprint.delete(MEMBER)
@operation(
    "Members",
    scope="admin",
    refuses=("unknown-customer", "not-found", "conflict", "precondition-failed"),
    example=Example(path=ONE_OF_DEMO, status=204, after="members_add"),
    headers=(IF_MATCH,),
)
def remove(customer: str, user_id: int) -> None:
    """Take a user out of a customer, which frees the seat. The last owner stays."""
    runtime = current_metering().runtime
    with changing() as change:
        found = change.customer(customer)
        require_match(MemberAnswer.of(find_member(change.session, found, user_id)))
        remove_member(change.session, runtime.intake, runtime.catalog, found, user_id, now=change.now)
        change.note("member.remove", found, user=user_id)
    count_seats(runtime)
