"""API keys: made, listed, replaced and revoked, those of a customer and those of the operators.

Always holds: a secret stands in the one answer that makes it; a change holds in every process within a second.
"""

from collections.abc import Mapping
from typing import Self

from flask import Blueprint
from pydantic import Field

from metering.accounts.customers import find_customer
from metering.accounts.keys import create_key, keys_of, revoke_key, rotate_key
from metering.api.auth import current_caller, current_metering, customer_in_reach
from metering.api.bodies import Body
from metering.api.changing import Change, changing
from metering.api.operation import Answered, Example, operation
from metering.api.paging import PageQuery, page
from metering.api.shapes import EXAMPLE_CUSTOMER, Answer, Instant, Line, Page
from metering.models import ApiKey, Customer

blueprint = Blueprint("api_keys", __name__, url_prefix="/api/v1")

KEY_PATH = "<int(max=9223372036854775807):key_id>"
MAX_OVERLAP_SECONDS = 7 * 24 * 3600
DEMO = {"customer": EXAMPLE_CUSTOMER}
ONE_OF_DEMO: Mapping[str, str | Answered] = {**DEMO, "key_id": Answered("keys_create", "id")}


class KeyAnswer(Answer):
    """`prefix` is how the secret begins. A key works until it is revoked, or until `expires_at`."""

    id: int
    prefix: str
    name: str
    scopes: list[str]
    created_at: Instant
    last_used_at: Instant | None
    expires_at: Instant | None
    revoked_at: Instant | None

    @classmethod
    def of(cls, key: ApiKey, **more: object) -> Self:
        return cls(
            id=key.id,
            prefix=key.prefix,
            name=key.name,
            scopes=key.scopes,
            created_at=key.created_at,
            last_used_at=key.last_used_at,
            expires_at=key.expires_at,
            revoked_at=key.revoked_at,
            **more,
        )


class NewKeyAnswer(KeyAnswer):
    """`secret` is shown here and never again."""

    secret: str


class KeyBody(Body):
    """`scopes`: some of `meter`, `usage:read`, `admin`; operators also grant `events:write`."""

    name: Line
    scopes: list[str] = Field(min_length=1, max_length=10, examples=[["meter", "usage:read"]])


class Rotation(Body):
    """`overlap_seconds`: how long the old key still works, up to a week."""

    overlap_seconds: int = Field(default=0, ge=0, le=MAX_OVERLAP_SECONDS)


@blueprint.post("/customers/<customer>/keys")
@operation(
    "API keys",
    scope="admin",
    body=KeyBody,
    answers=NewKeyAnswer,
    status=201,
    refuses=("unknown-customer", "invalid-key"),
    example=Example(path=DEMO, body={"name": "server", "scopes": ["meter", "usage:read"]}, status=201),
)
def create(customer: str, body: KeyBody) -> NewKeyAnswer:
    """Make a key of a customer. Its secret is in this answer alone."""
    with changing() as change:
        return _create(change, change.customer(customer), body)


@blueprint.get("/customers/<customer>/keys")
@operation(
    "API keys",
    scope="admin",
    query=PageQuery,
    answers=Page[KeyAnswer],
    refuses=("unknown-customer",),
    example=Example(path=DEMO),
)
def list_keys(customer: str, query: PageQuery) -> Page[KeyAnswer]:
    """The keys of a customer, newest first; those that were revoked too."""
    with current_metering().runtime.transaction() as session:
        found = find_customer(session, customer_in_reach(customer))
        keys = keys_of(session, found, before=query.after_id, limit=query.limit + 1)
    return page(keys, query, lambda key: key.id, KeyAnswer.of)


@blueprint.post(f"/customers/<customer>/keys/{KEY_PATH}/rotate")
@operation(
    "API keys",
    scope="admin",
    body=Rotation,
    answers=NewKeyAnswer,
    status=201,
    refuses=("unknown-customer", "not-found", "conflict"),
    example=Example(path=ONE_OF_DEMO, body={"overlap_seconds": 3600}, status=201),
)
def rotate(customer: str, key_id: int, body: Rotation) -> NewKeyAnswer:
    """Make a key with the same name and scopes; the old one stops after the overlap. A key is replaced once: from then
    on its successor is the one to replace, also while both work.
    """
    with changing() as change:
        found = change.customer(customer)
        successor, made = rotate_key(
            change.session,
            found,
            key_id,
            overlap_seconds=body.overlap_seconds,
            now=change.now,
            by_operator=current_caller().is_operator,
            by=change.actor,
        )
        change.note("key.rotate", found, key=key_id, successor=successor.id, overlap_seconds=body.overlap_seconds)
        return NewKeyAnswer.of(successor, secret=made.secret)


@blueprint.delete(f"/customers/<customer>/keys/{KEY_PATH}")
@operation(
    "API keys",
    scope="admin",
    refuses=("unknown-customer", "not-found"),
    example=Example(path=ONE_OF_DEMO, status=204),
)
def revoke(customer: str, key_id: int) -> None:
    """Revoke a key for good. Revoking it again changes nothing."""
    with changing() as change:
        _revoke(change, change.customer(customer), key_id)


@blueprint.post("/operator-keys")
@operation(
    "API keys",
    scope="admin",
    operators_only=True,
    body=KeyBody,
    answers=NewKeyAnswer,
    status=201,
    refuses=("invalid-key",),
    example=Example(body={"name": "importer", "scopes": ["events:write"]}, status=201),
)
def create_operators(body: KeyBody) -> NewKeyAnswer:
    """Make a key of the operators: it belongs to no customer and may act for any."""
    with changing() as change:
        return _create(change, None, body)


@blueprint.get("/operator-keys")
@operation("API keys", scope="admin", operators_only=True, query=PageQuery, answers=Page[KeyAnswer])
def list_operators(query: PageQuery) -> Page[KeyAnswer]:
    """The operators' own keys, newest first."""
    with current_metering().runtime.transaction() as session:
        keys = keys_of(session, None, before=query.after_id, limit=query.limit + 1)
    return page(keys, query, lambda key: key.id, KeyAnswer.of)


@blueprint.delete("/operator-keys/<int(max=9223372036854775807):operator_key_id>")
@operation(
    "API keys",
    scope="admin",
    operators_only=True,
    refuses=("not-found",),
    example=Example(path={"operator_key_id": Answered("keys_create_operators", "id")}, status=204),
)
def revoke_operators(operator_key_id: int) -> None:
    """Revoke one of the operators' own keys for good."""
    with changing() as change:
        _revoke(change, None, operator_key_id)


def _create(change: Change, customer: Customer | None, body: KeyBody) -> NewKeyAnswer:
    key, made = create_key(
        change.session,
        customer,
        name=body.name,
        scopes=body.scopes,
        now=change.now,
        by_operator=current_caller().is_operator,
        by=change.actor,
    )
    change.note("key.create", customer, key=key.id, name=key.name, scopes=key.scopes)
    return NewKeyAnswer.of(key, secret=made.secret)


def _revoke(change: Change, customer: Customer | None, key_id: int) -> None:
    key = revoke_key(change.session, customer, key_id, now=change.now)
    if key.revoked_at == change.now:
        change.note("key.revoke", customer, key=key.id, name=key.name)
