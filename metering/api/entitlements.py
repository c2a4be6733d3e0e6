"""What a customer may still use, in OpenMeter's words: an entitlement for each meter, by the feature's key."""

from typing import Any

from flask import Blueprint

from metering import entitlements
from metering.api.auth import current_metering, customer_in_reach
from metering.api.bodies import Query
from metering.api.operation import Example, operation
from metering.api.shapes import EXAMPLE_CUSTOMER, CamelAnswer, Number, StatedInstant
from metering.entitlements import Entitlement

blueprint = Blueprint("api_entitlements", __name__, url_prefix="/api")


class EntitlementQuery(Query):
    """`time`: the moment that is asked about, now unless it is said."""

    time: StatedInstant | None = None


class EntitlementValue(CamelAnswer):
    """`balance` is what is left of the limit and `overage` what passes it, in the meter's unit. A meter without a limit
    has neither a balance nor a grant: there is always access.
    """

    has_access: bool
    balance: Number | None = None
    usage: Number | None = None
    overage: Number | None = None
    total_available_grant_amount: Number | None = None

    @classmethod
    def of(cls, found: Entitlement) -> "EntitlementValue":
        return cls(
            has_access=found.has_access,
            balance=found.balance,
            usage=found.used,
            overage=found.overage,
            total_available_grant_amount=found.limit,
        )


class Access(CamelAnswer):
    """The entitlement of each feature, by its key."""

    entitlements: dict[str, EntitlementValue]


def _value(customer: str, feature: str, query: EntitlementQuery) -> EntitlementValue:
    found = entitlements.entitlement(current_metering(), customer_in_reach(customer), feature, query.time)
    return EntitlementValue.of(found) if found else EntitlementValue(has_access=False)


_described: dict[str, Any] = {
    "scope": "usage:read",
    "query": EntitlementQuery,
    "answers": EntitlementValue,
    "refuses": ("unknown-customer", "invalid-query"),
    "example": Example(path={"customer": EXAMPLE_CUSTOMER, "feature": "tokens"}),
}


@blueprint.get("/v1/customers/<customer>/entitlements/<path:feature>/value")
@operation("Entitlements", **_described)
def value(customer: str, feature: str, query: EntitlementQuery) -> EntitlementValue:
    """Whether the customer may use the feature, and how much of it is left. One that is unknown gives no access."""
    return _value(customer, feature, query)


@blueprint.get("/v2/customers/<customer>/entitlements/<path:feature>/value")
@operation("Entitlements", **_described)
def value_v2(customer: str, feature: str, query: EntitlementQuery) -> EntitlementValue:
    """Whether the customer may use the feature: the address that OpenMeter's second version has for it."""
    return _value(customer, feature, query)


@blueprint.get("/v1/customers/<customer>/access")
@operation(
    "Entitlements",
    scope="usage:read",
    answers=Access,
    refuses=("unknown-customer",),
    example=Example(path={"customer": EXAMPLE_CUSTOMER}),
)
def access(customer: str) -> Access:
    """The entitlements of all features at this moment."""
    found = entitlements.entitlements(current_metering(), customer_in_reach(customer))
    return Access(entitlements={key: EntitlementValue.of(one) for key, one in found.items()})
