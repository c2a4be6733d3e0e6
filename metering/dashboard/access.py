"""Who may see what: the one place that finds a customer for the logged-in user.

Always holds: a customer that is not the user's answers as one that does not exist. Pages ask for nothing but the
`Access` they are given here, so none of them can reach another's data.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

from flask import current_app, g, request, session
from flask.typing import ResponseReturnValue
from flask_login import current_user
from sqlalchemy.orm import Session

from metering.accounts.customers import find_customer
from metering.accounts.users import customers_of
from metering.catalog import Catalog
from metering.dashboard.faults import DATABASE_AWAY
from metering.dashboard.remembered import Remembered
from metering.dashboard.view_models import CustomerRef, UserRef
from metering.errors import NotFound, NotPermitted
from metering.extensions import db, login
from metering.limits.thresholds import percents_of
from metering.models import Customer, User
from metering.service import Metering

KEY_MANAGERS = ("owner", "admin")
LAST_CUSTOMER = "customer"
"""Under which name the session keeps the key of the customer that was looked at last."""


@dataclass(frozen=True, slots=True)
class Access:
    """What the logged-in user may do with one customer, as plain values.

    `role` is None for an operator who is no member: operators see all and change nothing here.
    `remembered`: PostgreSQL is away, this is what it said last. Good for looking, never for changing.
    """

    user: UserRef
    customer_id: int
    customer_key: str
    customer_name: str
    timezone: str
    plan: str
    partition: int
    role: str | None
    customers: tuple[CustomerRef, ...]
    alert_percents: tuple[int, ...]
    own_alert_percents: bool = False
    remembered: bool = False

    @property
    def may_manage_keys(self) -> bool:
        return self.role in KEY_MANAGERS and not self.remembered

    @property
    def may_manage_alerts(self) -> bool:
        """Thresholds and webhooks."""
        return self.role in KEY_MANAGERS and not self.remembered

    @property
    def may_dismiss_alerts(self) -> bool:
        return self.role in (*KEY_MANAGERS, "member") and not self.remembered

    @property
    def may_manage_plan(self) -> bool:
        """Owners and admins buy and cancel."""
        return self.role in KEY_MANAGERS and not self.remembered

    @property
    def may_manage_team(self) -> bool:
        return self.role in KEY_MANAGERS and not self.remembered

    @property
    def may_make_owners(self) -> bool:
        """Owners alone decide who is one."""
        return self.role == "owner" and not self.remembered

    @property
    def may_change_settings(self) -> bool:
        return self.role in KEY_MANAGERS and not self.remembered

    @property
    def customer(self) -> CustomerRef:
        return next(one for one in self.customers if one.key == self.customer_key)


def current_metering() -> Metering:
    metering: Metering = current_app.extensions["metering"]
    return metering


def logged_in_user() -> User | None:
    """Whose session this is. Raises one of DATABASE_AWAY while PostgreSQL is away: sessions are checked against it."""
    user: User = current_user
    return user if user.is_authenticated else None


def customer_page(view: Callable[..., ResponseReturnValue]) -> Callable[..., ResponseReturnValue]:
    """Give the view the `Access` to the customer in its address: 404 for another's, the login page for nobody."""

    @wraps(view)
    def guarded(customer_key: str, **rest: Any) -> ResponseReturnValue:
        access = access_to(customer_key)
        if access is None:
            answer: ResponseReturnValue = login.unauthorized()
            return answer
        _keep_in_mind(access)
        return view(access, **rest)

    return guarded


def _keep_in_mind(access: Access) -> None:
    """Which customer the user is on, for pages that are no customer's; parts of pages that stay open say nothing."""
    if "HX-Request" not in request.headers and session.get(LAST_CUSTOMER) != access.customer_key:
        session[LAST_CUSTOMER] = access.customer_key


def access_to(customer_key: str) -> Access | None:
    """What the logged-in user may do with a customer; None when nobody is logged in.

    Raises:
        NotFound, UnknownCustomer: there is none, or it is not the user's.
        One of DATABASE_AWAY: PostgreSQL is away, and this process has not seen this user lately.
    """
    metering = current_metering()
    now, memory = metering.runtime.clock(), _memory()
    session_id = str(session.get("_user_id", ""))
    try:
        user = logged_in_user()
        if user is None:
            memory.forget(session_id)
            return None
        access = find_access(db.session(), metering.runtime.catalog, user, customer_key)
    except DATABASE_AWAY:
        note_database_away()
        known = memory.recall(session_id, customer_key, now)
        if known is None:
            raise
        return replace(known, remembered=True)
    except NotFound:
        memory.forget(session_id)
        raise
    memory.keep(user.get_id(), customer_key, access, now)
    metering.runtime.refresh_meters()
    return access


def find_access(session: Session, catalog: Catalog, user: User, customer_key: str) -> Access:
    """Raises NotFound, UnknownCustomer; both answer 404."""
    memberships = customers_of(session, user)
    roles = {membership.customer.key: membership.role for membership in memberships}
    shown = [membership.customer for membership in memberships]
    if customer_key not in roles:
        if not user.operator:
            raise NotFound("there is no such customer")
        shown.append(find_customer(session, customer_key))
    customer = next(one for one in shown if one.key == customer_key)
    return Access(
        user=user_ref(user),
        customer_id=customer.id,
        customer_key=customer.key,
        customer_name=customer.name,
        timezone=customer.timezone,
        plan=customer.plan,
        partition=customer.partition,
        role=roles.get(customer_key),
        customers=tuple(customer_ref(catalog, one) for one in shown),
        alert_percents=percents_of(catalog, customer),
        own_alert_percents=customer.alert_percents is not None,
    )


def require_key_manager(access: Access) -> None:
    """Raises NotPermitted."""
    if not access.may_manage_keys:
        raise NotPermitted("only owners and admins of a customer manage its API keys")


def require_plan_manager(access: Access) -> None:
    """Raises NotPermitted."""
    if not access.may_manage_plan:
        raise NotPermitted("only owners and admins of a customer change its plan")


def require_alert_manager(access: Access) -> None:
    """Raises NotPermitted."""
    if not access.may_manage_alerts:
        raise NotPermitted("only owners and admins of a customer change its alerts and webhooks")


def require_alert_dismisser(access: Access) -> None:
    """Raises NotPermitted."""
    if not access.may_dismiss_alerts:
        raise NotPermitted("only owners, admins and members of a customer dismiss its alerts")


def require_team_manager(access: Access) -> None:
    """Raises NotPermitted."""
    if not access.may_manage_team:
        raise NotPermitted("only owners and admins of a customer manage its members")


def require_settings_manager(access: Access) -> None:
    """Raises NotPermitted."""
    if not access.may_change_settings:
        raise NotPermitted("only owners and admins of a customer change its settings")


def user_page(view: Callable[..., ResponseReturnValue]) -> Callable[..., ResponseReturnValue]:
    """Give the view the logged-in `User`: the login page for nobody."""

    @wraps(view)
    def guarded(**rest: Any) -> ResponseReturnValue:
        user = logged_in_user()
        if user is None:
            answer: ResponseReturnValue = login.unauthorized()
            return answer
        return view(user, **rest)

    return guarded


def user_ref(user: User) -> UserRef:
    return UserRef(user.name or user.email, user.email, user.operator)


def customer_ref(catalog: Catalog, customer: Customer) -> CustomerRef:
    plan = catalog.plans.get(customer.plan)
    return CustomerRef(
        customer.key,
        customer.name,
        plan_name=plan.name if plan else customer.plan,
        suspended=customer.status == "suspended",
    )


def note_database_away() -> None:
    """One failed try a request is enough: each may cost a whole time-out."""
    db.session.rollback()
    g.database_away = True


def database_is_away() -> bool:
    return bool(g.get("database_away"))


def _memory() -> Remembered[Access]:
    memory: Remembered[Access] = current_app.extensions["metering_dashboard_memory"]
    return memory
