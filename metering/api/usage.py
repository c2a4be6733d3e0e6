"""What API consumers ask about themselves: usage, limits, the bill so far."""

from typing import Any

from flask import Blueprint, Response, request

from metering.api.auth import callers_customer, current_metering, scoped
from metering.billing.estimate import Estimate, EstimateLine
from metering.problems import to_json
from metering.service import MeterUsage

blueprint = Blueprint("api_usage", __name__, url_prefix="/api/v1")


def answer(body: Any) -> Response:
    return Response(to_json(body), content_type="application/json")


@blueprint.get("/usage")
@scoped("usage:read")
def usage() -> Response:
    """The live usage of the current period, a line a meter."""
    summary = current_metering().summary(callers_customer())
    return answer(
        {
            "customer": summary.customer,
            "plan": summary.plan,
            "period": {"start": summary.period.starts_at, "end": summary.period.ends_at},
            "meters": [_meter(one) for one in summary.meters],
        }
    )


@blueprint.get("/limits/<meter>")
@scoped("usage:read")
def limit(meter: str) -> Response:
    """Whether `quantity` more (1 by default) would be let in right now. Holds nothing."""
    check = current_metering().check_limit(callers_customer(), meter, request.args.get("quantity", "1"))
    return answer({"allowed": check.allowed, **_meter(check.usage)})


@blueprint.get("/estimate")
@scoped("usage:read")
def estimate() -> Response:
    """What the current period costs so far, line by line. Amounts of money are decimal strings."""
    return answer(_estimate(current_metering().estimate(callers_customer())))


def _meter(usage: MeterUsage) -> dict[str, Any]:
    return {
        "meter": usage.meter,
        "unit": usage.unit,
        "used": usage.used,
        "limit": usage.limit,
        "remaining": usage.remaining,
        "included": usage.included,
        "included_unit": usage.included_unit,
        "percent": usage.percent,
        "resets_at": usage.resets_at,
    }


def _estimate(found: Estimate) -> dict[str, Any]:
    return {
        "customer": found.customer,
        "plan": found.plan,
        "period": {"start": found.starts_at, "end": found.ends_at},
        "as_of": found.as_of,
        "currency": found.currency,
        "lines": [_line(line) for line in found.lines],
        "total": str(found.total),
    }


def _line(line: EstimateLine) -> dict[str, Any]:
    body: dict[str, Any] = {"name": line.name, "meter": line.meter, "amount": str(line.amount)}
    if line.usage is not None:
        priced = line.usage
        body |= {"unit": priced.unit, "quantity": priced.quantity, "included": priced.included}
        body |= {"billable": priced.billable, "unit_price": priced.unit_price}
    return body
