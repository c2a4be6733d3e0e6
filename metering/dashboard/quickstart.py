"""The way to the first call and beyond: what to do next, in commands that work, ticked off as it is done.

A key may be made here too; the commands of that one answer hold it, and no other page ever does.
"""

from dataclasses import dataclass

from flask import make_response, render_template, request
from flask.typing import ResponseReturnValue
from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.accounts.keys import DEFAULT_SCOPES
from metering.catalog import Catalog
from metering.dashboard import presenters
from metering.dashboard.access import Access, current_metering, customer_page, require_key_manager
from metering.dashboard.figures import from_database, used_before
from metering.dashboard.fragments import fragment
from metering.dashboard.keys import in_force, make_key
from metering.dashboard.overview import blueprint
from metering.dashboard.view_models import CreatedKey, Fragment
from metering.limits.thresholds import own_thresholds
from metering.models import ApiKey

__all__ = ["blueprint"]

SAMPLE_PATH = "/api/v1/sample/ping"
USAGE_PATH = "/api/v1/usage"
PLACEHOLDER = "YOUR_API_KEY"
KEY_NAME = "Quick start"


@dataclass(frozen=True, slots=True)
class Steps(Fragment):
    """How far a customer has come. `key_prefix` is that of its newest key that works; None where it has none."""

    customer_key: str
    key_prefix: str | None
    key_used: bool
    counted: bool
    alert_set: bool
    plan_chosen: bool
    plan_name: str
    may_manage: bool

    @property
    def ticks(self) -> tuple[bool, ...]:
        return (self.key_prefix is not None, self.key_used, self.counted, self.alert_set, self.plan_chosen)

    @property
    def done(self) -> int:
        return sum(self.ticks)

    @property
    def all(self) -> int:
        return len(self.ticks)


@blueprint.get("/c/<customer_key>/quickstart")
@customer_page
def quickstart(access: Access) -> ResponseReturnValue:
    return _page(access)


@blueprint.post("/c/<customer_key>/quickstart/key", endpoint="quickstart_key")
@customer_page
def make_first_key(access: Access) -> ResponseReturnValue:
    """The page with commands that hold a new key."""
    require_key_manager(access)
    return _page(access, make_key(access, KEY_NAME, DEFAULT_SCOPES))


@blueprint.get("/c/<customer_key>/live/quickstart")
@customer_page
def live_quickstart(access: Access) -> ResponseReturnValue:
    steps = _steps(access)
    return fragment(steps) or make_response(render_template("dashboard/partials/quickstart.html", steps=steps))


def _page(access: Access, created: CreatedKey | None = None) -> str:
    address = (current_metering().settings.public_url or request.url_root).rstrip("/")
    return render_template(
        "dashboard/quickstart.html",
        steps=_steps(access),
        created=created,
        waits=created is not None and not in_force(created.key_id),
        shell_lines=shell_lines(address, created.secret if created else PLACEHOLDER),
        python_lines=python_lines(address),
        usage_lines=usage_lines(address),
        shell=presenters.shell(access),
    )


def shell_lines(address: str, key: str = PLACEHOLDER) -> str:
    """A first call. Of a key that was made before nothing but its prefix is kept, so the reader puts it in once."""
    return f'export METERING_KEY={key}\ncurl -i -H "Authorization: Bearer $METERING_KEY" {address}{SAMPLE_PATH}'


def usage_lines(address: str) -> str:
    return f'curl -H "Authorization: Bearer $METERING_KEY" {address}{USAGE_PATH}'


def python_lines(address: str) -> str:
    return "\n".join(
        (
            "import os",
            "import requests",
            "",
            f'url = "{address}{SAMPLE_PATH}"',
            'key = os.environ["METERING_KEY"]',
            'headers = {"Authorization": f"Bearer {key}"}',
            "",
            "answer = requests.get(url, headers=headers)",
            "answer.raise_for_status()",
            'left = answer.headers["X-RateLimit-Remaining"]',
            'print(answer.json(), left, "left")',
        )
    )


def _steps(access: Access) -> Steps:
    """While PostgreSQL is away nobody is told to begin: they may have long begun."""
    known = from_database(lambda session: _read(session, access.customer_id))
    key, used, counted, thresholds = known or ("", True, True, True)
    catalog = current_metering().runtime.catalog
    return Steps(
        customer_key=access.customer_key,
        key_prefix=key,
        key_used=used,
        counted=counted,
        alert_set=thresholds or access.own_alert_percents,
        plan_chosen=_costs_something(catalog, access.plan),
        plan_name=presenters.plan_name(catalog, access.plan),
        may_manage=access.may_manage_keys,
    )


def _costs_something(catalog: Catalog, key: str) -> bool:
    """Whether a plan was chosen, then: everybody begins with one that is free. Plans that are sold no more count."""
    plan = catalog.plans.get(key)
    return plan is None or plan.base_fee > 0


def _read(session: Session, customer_id: int) -> tuple[str | None, bool, bool, bool]:
    """The prefix of the newest key that works, whether any key was ever used, whether anything was counted, and whether
    there are thresholds of single meters or of the bill.
    """
    keys = select(ApiKey.prefix).where(ApiKey.customer_id == customer_id, ApiKey.revoked_at.is_(None))
    prefix = session.scalar(keys.order_by(ApiKey.id.desc()).limit(1))
    used = select(ApiKey.id).where(ApiKey.customer_id == customer_id, ApiKey.last_used_at.is_not(None))
    counted = used_before(session, customer_id)
    thresholds = bool(own_thresholds(session, customer_id))
    return prefix, counted or session.scalar(used.limit(1)) is not None, counted, thresholds
