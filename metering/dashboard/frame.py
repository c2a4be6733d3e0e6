"""The frame around pages that are a user's own, not a customer's: that of the customer the user was last on."""

from flask import session

from metering.accounts.users import customers_of
from metering.dashboard import presenters
from metering.dashboard.access import LAST_CUSTOMER, current_metering, find_access
from metering.dashboard.view_models import ShellView
from metering.errors import NotFound
from metering.extensions import db
from metering.models import User


def frame_of(user: User) -> ShellView | None:
    """None for a user without a customer."""
    catalog, key = current_metering().runtime.catalog, last_customer(user)
    return None if key is None else presenters.shell(find_access(db.session(), catalog, user, key))


def last_customer(user: User) -> str | None:
    """The key of the customer that the user was last on in this session, else of the one it belongs to longest."""
    key = session.get(LAST_CUSTOMER)
    if key is not None:
        try:
            return find_access(db.session(), current_metering().runtime.catalog, user, key).customer_key
        except NotFound:
            session.pop(LAST_CUSTOMER)
    memberships = customers_of(db.session(), user)
    return memberships[0].customer.key if memberships else None
