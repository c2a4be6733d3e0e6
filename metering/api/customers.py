"""Customers: made and listed by operators, read and named by whoever administers them, and the plans that bill them."""

from typing import Annotated, Literal, Self, cast

from flask import Blueprint, url_for
from pydantic import Field

from metering.accounts.customers import (
    KEY,
    STRIPE_ID,
    change_customer,
    change_plan,
    create_customer,
    find_customer,
    link_with_stripe,
    list_customers,
    set_status,
)
from metering.api.auth import current_caller, current_metering, customer_in_reach
from metering.api.bodies import Body
from metering.api.changing import Change, changing
from metering.api.operation import Example, operation
from metering.api.paging import PageQuery, page
from metering.api.preconditions import IF_MATCH, Tagged, require_match, tagged
from metering.api.shapes import EXAMPLE_CUSTOMER, Answer, Instant, Line, Page
from metering.billing.periods import PlanStart, Terms, terms_of
from metering.errors import NotPermitted
from metering.models import Customer

blueprint = Blueprint("api_customers", __name__, url_prefix="/api/v1")

Status = Literal["active", "suspended"]
StripeId = Annotated[str, Field(pattern=f"^{STRIPE_ID.pattern}$", examples=["cus_NffrFeUfNV2Hib"])]
OPERATORS_FIELDS = ("status", "stripe_customer_id")
DEMO = {"customer": EXAMPLE_CUSTOMER}


class CustomerAnswer(Answer):
    """`plan` bills the running period. `next_plan` begins at `next_plan_at`; null while the plan stays as it is."""

    key: str
    name: str
    timezone: str
    status: Status
    plan: str
    next_plan: str | None
    next_plan_at: Instant | None
    stripe_customer_id: str | None
    created_at: Instant

    @classmethod
    def of(cls, customer: Customer, terms: Terms) -> Self:
        return cls(
            key=customer.key,
            name=customer.name,
            timezone=customer.timezone,
            status=cast(Status, customer.status),
            plan=terms.plan,
            next_plan=terms.next_plan,
            next_plan_at=terms.next_plan_at,
            stripe_customer_id=customer.stripe_customer_id,
            created_at=customer.created_at,
        )


class NewCustomer(Body):
    key: str = Field(pattern=f"^{KEY.pattern}$", examples=["initech"])
    name: Line
    plan: str = Field(min_length=1, max_length=63, examples=["free"])
    timezone: str = Field(default="UTC", min_length=1, max_length=100)
    stripe_customer_id: StripeId | None = None


@blueprint.post("/customers")
@operation(
    "Customers",
    scope="admin",
    operators_only=True,
    body=NewCustomer,
    answers=CustomerAnswer,
    status=201,
    refuses=("invalid-customer", "unknown-plan", "unknown-time-zone", "conflict"),
    example=Example(body={"key": "initech", "name": "Initech", "plan": "free"}, status=201),
)
def create(body: NewCustomer) -> Tagged:
    """Make a customer, with its current and next billing period."""
    runtime = current_metering().runtime
    with changing() as change:
        customer = create_customer(
            change.session,
            runtime.catalog,
            key=body.key,
            name=body.name,
            plan=body.plan,
            partitions=runtime.settings.partitions,
            now=change.now,
            timezone=body.timezone,
            stripe_customer_id=body.stripe_customer_id,
        )
        change.note("customer.create", customer, **body.model_dump())
        answer = _answer(change, customer)
    return tagged(answer, 201, Location=url_for("api_customers.read", customer=body.key))


class CustomersQuery(PageQuery):
    """`q`: how the key or the name begins; capital letters of a name count as small ones."""

    q: Line | None = None


@blueprint.get("/customers")
@operation(
    "Customers",
    scope="admin",
    operators_only=True,
    query=CustomersQuery,
    answers=Page[CustomerAnswer],
    example=Example(query={"limit": 20, "q": "de"}),
)
def list_all(query: CustomersQuery) -> Page[CustomerAnswer]:
    """Customers in the order of their keys."""
    runtime = current_metering().runtime
    with runtime.transaction() as session:
        found = list_customers(session, begins=query.q, after=query.after, limit=query.limit + 1)
        terms = terms_of(session, found, runtime.clock())
    return page(found, query, lambda one: one.key, lambda one: CustomerAnswer.of(one, terms[one.id]))


@blueprint.get("/customers/<customer>")
@operation(
    "Customers", scope="admin", answers=CustomerAnswer, refuses=("unknown-customer",), example=Example(path=DEMO)
)
def read(customer: str) -> Tagged:
    """A customer, with the ETag that If-Match takes."""
    runtime = current_metering().runtime
    with runtime.transaction() as session:
        found = find_customer(session, customer_in_reach(customer))
        terms = terms_of(session, [found], runtime.clock())
    return tagged(CustomerAnswer.of(found, terms[found.id]))


class CustomerChanges(Body):
    """What is left out stays. Only operators set `status` and `stripe_customer_id`; null takes the latter away."""

    name: Line | None = None
    timezone: str | None = Field(default=None, min_length=1, max_length=100)
    status: Status | None = None
    stripe_customer_id: StripeId | None = None


@blueprint.patch("/customers/<customer>")
@operation(
    "Customers",
    scope="admin",
    body=CustomerChanges,
    answers=CustomerAnswer,
    refuses=("unknown-customer", "unknown-time-zone", "conflict", "precondition-failed", "stripe-failed"),
    example=Example(path=DEMO, body={"name": "Demo Corporation"}),
    headers=(IF_MATCH,),
)
def update(customer: str, body: CustomerChanges) -> Tagged:
    """Rename a customer or move it to another time zone; for operators also suspend it, or link it with Stripe."""
    _refuse_operators_fields(customer_in_reach(customer), body)
    with changing() as change:
        found = change.customer(customer)
        require_match(_answer(change, found))
        change_customer(change.session, found, name=body.name, timezone=body.timezone)
        if body.status is not None and body.status != found.status:
            set_status(change.session, found, body.status)
        if "stripe_customer_id" in body.model_fields_set:
            settings, stripe_id = current_metering().settings, body.stripe_customer_id
            link_with_stripe(change.session, settings, found, stripe_id, now=change.now, actor=change.actor)
        change.note("customer.change", found, **body.model_dump(exclude_unset=True))
        answer = _answer(change, found)
    return tagged(answer)


def _refuse_operators_fields(customer: str, body: CustomerChanges) -> None:
    """Raises NotPermitted: a customer could otherwise end its own suspension, or have another one billed."""
    meant = [name for name in OPERATORS_FIELDS if name in body.model_fields_set]
    if meant and not current_caller().is_operator:
        raise NotPermitted(f"only operators set {' and '.join(meant)}", customer=customer, field=meant[0])


class PlanChange(Body):
    """`when`: `now` bills the running period by the plan, from its start; `period_end` begins with the next one."""

    plan: str = Field(min_length=1, max_length=63)
    when: PlanStart = "now"


@blueprint.put("/customers/<customer>/plan")
@operation(
    "Customers",
    scope="admin",
    operators_only=True,
    body=PlanChange,
    answers=CustomerAnswer,
    refuses=("unknown-customer", "unknown-plan", "conflict", "precondition-failed"),
    example=Example(path=DEMO, body={"plan": "pro", "when": "now"}),
    headers=(IF_MATCH,),
)
def put_plan(customer: str, body: PlanChange) -> Tagged:
    """Put a customer on a plan. It takes the place of one that was to begin with the next period.

    Refused while a subscription of the customer's runs at Stripe: its plan is the customer's, and changes there.
    """
    runtime = current_metering().runtime
    with changing() as change:
        found = change.customer(customer)
        require_match(_answer(change, found))
        change_plan(change.session, runtime.settings, runtime.catalog, found, body.plan, when=body.when, now=change.now)
        change.note("customer.plan", found, **body.model_dump())
        answer = _answer(change, found)
    return tagged(answer)


def _answer(change: Change, customer: Customer) -> CustomerAnswer:
    return CustomerAnswer.of(customer, terms_of(change.session, [customer], change.now)[customer.id])
