"""What the customer's pages show, as frozen values: the contract between the views and the templates.

A template only lays out what stands here; nothing is computed, looked up or formatted in it. A fragment that is
polled (usage, alerts, estimate) knows its own fingerprint, made of everything it shows, so that "unchanged" (204)
can never hide a change.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Literal

State = Literal["ok", "warn", "full", "unlimited"]
Kind = Literal["resets", "level"]
LimitKind = Literal["hard", "soft", "none"]
AlertLevel = Literal["warning", "critical"]

WARN_AT = Decimal(80)
FULL_AT = Decimal(100)

_METER_ICONS = {
    "api_call": "activity",
    "storage_bytes": "database",
    "tokens": "text-recognition",
    "compute_seconds": "cpu",
    "messages": "message",
    "seats": "armchair",
}


class Fragment:
    """A part of a page that is fetched again and again; the client sends back the fingerprint it has."""

    __slots__ = ()

    @property
    def fingerprint(self) -> str:
        """Equal for equal contents in every process and after every restart (a dataclass's repr is stable)."""
        return blake2b(repr(self).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Bar:
    """Where things lie on a meter's bar, each 0–100 percent of its length."""

    used: Decimal
    held: Decimal = Decimal(0)
    included: Decimal | None = None
    limit: Decimal | None = None


def bar_for(
    used: Decimal, *, limit: Decimal | None, included: Decimal | None = None, held: Decimal = Decimal(0)
) -> Bar:
    """The bar ends at the limit, or where usage went past it. Without a limit it ends at the included units, and
    beyond them always leaves room, so that it never looks full. Without either it stays empty.
    """
    if limit is None and not included:
        return Bar(used=Decimal(0))  # nothing to compare with
    taken = used + held
    end = max(taken, limit) if limit is not None else max(included or Decimal(0), taken * 4 / 3)
    if end <= 0:
        return Bar(used=Decimal(100) if limit == 0 else Decimal(0))

    def at(value: Decimal) -> Decimal:
        return min(max(value, Decimal(0)) * 100 / end, Decimal(100)).quantize(Decimal("0.01"))

    return Bar(
        used=at(used),
        held=at(held),
        included=at(included) if included and included <= end else None,
        limit=None if limit is None else at(limit),
    )


def percent_of(used: Decimal, limit: Decimal | None) -> Decimal | None:
    """Percent of the limit in use, beyond 100 too; None without a limit. A limit of nothing is used up."""
    if limit is None:
        return None
    return used * 100 / limit if limit > 0 else FULL_AT


def state_for(percent: Decimal | None) -> State:
    """The state a card shows with sign, words and colour."""
    if percent is None:
        return "unlimited"
    if percent >= FULL_AT:
        return "full"
    return "warn" if percent >= WARN_AT else "ok"


def icon_for(meter: str) -> str:
    """The sign of a meter; those of other catalogs share one."""
    return _METER_ICONS.get(meter, "gauge")


@dataclass(frozen=True, slots=True)
class Spark:
    """A small chart: bars over time, each 0–100 percent of the highest; `text` says it."""

    bars: tuple[int, ...]
    text: str


@dataclass(frozen=True, slots=True)
class UsageCard:
    """One meter. Texts come in pairs: as people read them ("12.4K"), and exact with the unit ("12,431 calls")."""

    meter: str
    name: str
    unit: str
    """Behind the short figures: "calls"; empty where they carry their unit themselves ("3.2 GB", "2 h")."""
    used: str
    used_exact: str
    bar: Bar
    state: State
    kind: Kind
    limit_kind: LimitKind
    limit: str | None = None
    limit_exact: str | None = None
    included: str | None = None
    included_exact: str | None = None
    remaining: str | None = None
    remaining_exact: str | None = None
    held: str | None = None
    held_exact: str | None = None
    percent: Decimal | None = None
    percent_text: str | None = None
    resets_at: datetime | None = None
    resets_text: str | None = None
    """A whole phrase: "Resets in 8 days"."""
    overage_cost: str | None = None
    overshoot: bool = False
    """More was used than the limit allows, because a running call used more than it reserved."""
    forecast: str | None = None
    """A whole phrase: "About 24.1K by Nov 30"."""
    forecast_alarms: bool = False
    """It says that a limit will be reached."""
    spark: Spark | None = None
    unused: bool = False
    """Nothing was used in this period, and the figure starts at nothing in each."""
    all_included: bool = False
    """What the limit allows costs nothing: there is no usage beyond what is included."""
    icon: str = "gauge"


@dataclass(frozen=True, slots=True)
class UsageView(Fragment):
    """The cards of one customer. `stale_text` is set while live figures can't be read ("Figures as of 15:02")."""

    customer_key: str
    cards: tuple[UsageCard, ...]
    has_usage: bool = True
    stale_text: str | None = None


@dataclass(frozen=True, slots=True)
class AlertView:
    """A threshold that was crossed. `id` is stable: a new id is read out to people who listen to the page.

    `alert_id` is there once it is written down, and can be dismissed.
    """

    id: str
    level: AlertLevel
    title: str
    text: str
    meter: str | None = None
    at: datetime | None = None
    at_text: str | None = None
    alert_id: int | None = None


@dataclass(frozen=True, slots=True)
class OutageView:
    """What does not work now, and what that means for the customer."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class AlertsView(Fragment):
    """What stands above the cards: an outage, then alerts."""

    customer_key: str
    alerts: tuple[AlertView, ...] = ()
    outage: OutageView | None = None
    may_dismiss: bool = False


@dataclass(frozen=True, slots=True)
class EstimateLine:
    """One meter of the estimate; all texts, the amount rounded once for the line."""

    label: str
    quantity: str
    included: str
    billable: str
    unit_price: str
    amount: str
    meter: str | None = None

    @property
    def price_text(self) -> str:
        return f"{self.unit_price} beyond {self.included}" if self.included != "0" else self.unit_price


@dataclass(frozen=True, slots=True)
class EstimateView(Fragment):
    """The bill of the running period if it ended now. Give `as_of_text` in minutes: it is part of the fingerprint."""

    customer_key: str
    period_text: str
    lines: tuple[EstimateLine, ...]
    base_fee_label: str
    base_fee: str
    total: str
    currency: str
    as_of_text: str
    forecast: str | None = None
    """The total at the period's end, if usage goes on as it does."""
    forecast_text: str | None = None


@dataclass(frozen=True, slots=True)
class EstimateOutage(Fragment):
    """In the place of an estimate that can't be worked out now; polled like it, so that it comes back by itself."""

    customer_key: str
    outage_text: str


@dataclass(frozen=True, slots=True)
class ActivityRow:
    """An event that was counted lately."""

    id: str
    at: datetime
    at_text: str
    meter: str
    quantity: str
    what: str
    """Where it came from: the path that was called, else the source."""
    icon: str
    voided: bool = False


@dataclass(frozen=True, slots=True)
class PulseView:
    """A bar for each of the last minutes: `title` says of what, `text` how much."""

    title: str
    text: str
    spark: Spark


@dataclass(frozen=True, slots=True)
class ActivityView(Fragment):
    """The newest events; `rows` is None while PostgreSQL is away."""

    customer_key: str
    rows: tuple[ActivityRow, ...] | None
    pulse: PulseView | None = None


@dataclass(frozen=True, slots=True)
class OverviewView:
    """The overview page."""

    customer_key: str
    customer_name: str
    plan_name: str
    period_start: datetime
    period_end: datetime
    period_text: str
    usage: UsageView
    alerts: AlertsView
    estimate: EstimateView | EstimateOutage | None = None
    activity: ActivityView | None = None


@dataclass(frozen=True, slots=True)
class KeyView:
    """An API key as its owner sees it; the secret itself is never kept."""

    id: str
    name: str
    prefix: str
    scopes: tuple[str, ...]
    created_at: datetime
    created_text: str
    last_used_at: datetime | None = None
    last_used_text: str = "Never"
    created_by: str | None = None
    """A phrase: "by ada@acme.example"."""
    ended_text: str | None = None
    """Why it does not work any more: "Revoked", "Replaced"."""
    until_text: str | None = None
    """Until when a key that was replaced still works."""


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """Shown once, on the answer that created it."""

    key_id: int
    name: str
    secret: str


@dataclass(frozen=True, slots=True)
class ScopeChoice:
    """One box of the form that creates a key."""

    value: str
    label: str
    help: str = ""


def initials(name: str) -> str:
    """ "Acme Robotics" → "AR", "acme" → "A"; "?" for a name without letters or digits."""
    words = [word for word in name.split() if word[0].isalnum()]
    return "".join(word[0] for word in words[:2]).upper() or "?"


@dataclass(frozen=True, slots=True)
class CustomerRef:
    """A customer in the switcher."""

    key: str
    name: str
    plan_name: str = ""
    suspended: bool = False

    @property
    def initials(self) -> str:
        return initials(self.name)


@dataclass(frozen=True, slots=True)
class UserRef:
    """Who is logged in."""

    name: str
    email: str
    is_operator: bool = False

    @property
    def initials(self) -> str:
        return initials(self.name)


@dataclass(frozen=True, slots=True)
class NavItem:
    """A page of a customer; its endpoint takes `customer_key`. Those of one group stand under its heading."""

    label: str
    icon: str
    endpoint: str
    group: str = ""

    @property
    def place(self) -> int:
        return GROUPS.index(self.group)

    def is_shown_at(self, endpoint: str) -> bool:
        """Whether the page at `endpoint` is this one, or one below it ("dashboard.events", "dashboard.events_one")."""
        return endpoint == self.endpoint or endpoint.startswith(f"{self.endpoint}_")


GROUPS = ("", "Usage", "Billing", "Manage")
NAVIGATION = (
    NavItem("Overview", "gauge", "dashboard.overview"),
    NavItem("Quick start", "rocket", "dashboard.quickstart"),
    NavItem("Usage", "chart-bar", "dashboard.usage", "Usage"),
    NavItem("Events", "list-details", "dashboard.events", "Usage"),
    NavItem("Bill", "file-invoice", "dashboard.bill", "Billing"),
    NavItem("Plan", "receipt", "dashboard.plan", "Billing"),
    NavItem("Alerts", "bell", "dashboard.alerts", "Manage"),
    NavItem("API keys", "key", "dashboard.keys", "Manage"),
    NavItem("Team", "users", "dashboard.team", "Manage"),
    NavItem("Settings", "settings", "dashboard.settings", "Manage"),
)


@dataclass(frozen=True, slots=True)
class MenuItem:
    """A page of the user's own, whatever the customer. `operators`: theirs alone."""

    label: str
    icon: str
    endpoint: str
    operators: bool = False


USER_MENU: tuple[MenuItem, ...] = (
    MenuItem("Account", "user-circle", "accounts.account"),
    MenuItem("Operators’ console", "gauge", "operator.home", operators=True),
)


@dataclass(frozen=True, slots=True)
class ShellView:
    """The frame around a customer's pages; templates get it as `shell`. Without it a page stands alone."""

    user: UserRef
    customer: CustomerRef
    customers: tuple[CustomerRef, ...] = ()
    navigation: tuple[NavItem, ...] = NAVIGATION
    menu: tuple[MenuItem, ...] = USER_MENU
    as_operator: bool = False
    """The user is no member: an operator who looks, and changes nothing."""
