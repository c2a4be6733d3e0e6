"""What the pages of the console share: the blueprint, the menu, keyset pages, times as texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from flask import Blueprint, Response, make_response, render_template, request, url_for
from flask.typing import ResponseReturnValue

from metering import humanize
from metering.dashboard.view_models import Fragment
from metering.operator.access import Operator

blueprint = Blueprint("operator", __name__, url_prefix="/operator")

PAGE = 50

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the menu. `group`: all endpoints that belong to it."""

    label: str
    icon: str
    endpoint: str
    group: tuple[str, ...] = ()


MENU = (
    Entry("Home", "gauge", "operator.home"),
    Entry("Queues", "activity", "operator.queues", ("operator.job",)),
    Entry("Set aside", "alert-triangle", "operator.messages", ("operator.message", "operator.held")),
    Entry(
        "Stripe",
        "receipt",
        "operator.stripe",
        ("operator.stripe_row", "operator.stripe_events", "operator.reconciliations", "operator.reconciliation"),
    ),
    Entry("Customers", "building", "operator.customers", ("operator.customer",)),
    Entry("Invariants", "equal", "operator.invariants", ("operator.verification",)),
    Entry("Audit log", "file-invoice", "operator.audit"),
)


@dataclass(frozen=True, slots=True)
class When:
    """A moment, and how long ago it was."""

    at: datetime
    text: str
    exact: str


def when(moment: datetime | None, now: datetime) -> When | None:
    if moment is None:
        return None
    at = moment.astimezone(UTC)
    return When(at, humanize.relative(at, now), f"{at:%Y-%m-%d %H:%M:%S} UTC")


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows, and the address of those behind them; None at the end."""

    rows: Sequence[Any]
    older_url: str | None
    newest_url: str | None


def page_of(found: Sequence[T], shown: Sequence[Any], place: Any) -> Page:
    """`found` is one row longer than a page where there are more; `place(row)` is the parameter of the next page."""
    here: dict[str, Any] = {**(request.view_args or {}), **request.args.to_dict()}
    began = here.pop("before", None)
    endpoint = request.endpoint or ""
    older = url_for(endpoint, **here, before=place(found[PAGE - 1])) if len(found) > PAGE else None
    return Page(shown, older, url_for(endpoint, **here) if began else None)


def number_before() -> int | None:
    text = request.args.get("before", "")
    return int(text) if text.isdecimal() and len(text) < 19 else None


def render(operator: Operator, template: str, **values: Any) -> str:
    return render_template(
        f"operator/{template}.html",
        operator=operator.user,
        menu=MENU,
        stripe_mode=operator.runtime.settings.stripe,
        **values,
    )


def fragment(view: Fragment, template: str, **values: Any) -> ResponseReturnValue:
    """A polled part: 204 for who has this very content already."""
    if request.args.get("fingerprint") == view.fingerprint:
        return Response(status=204)
    return make_response(render_template(f"operator/partials/{template}.html", view=view, **values))


def chosen(values: Mapping[str, str]) -> dict[str, str]:
    """The parameters of the address that a page filters by, without spaces and NUL; only those that are set."""
    found = {name: request.args.get(name, "").replace("\x00", "").strip()[:200] for name in values}
    return {name: value or values[name] for name, value in found.items()}


def moment_of(text: str) -> datetime | None:
    """A day or a time as a form sends it, in UTC; None for what is none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found
