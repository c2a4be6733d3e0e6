"""Billing portal sessions: a link to a page on which a customer sees to its subscriptions.

Source: Stripe's API reference, "Customer Portal Session". There is one configuration, the default one, which allows to
cancel at the period's end. The link holds a secret that the API doesn't show apart from it.
"""

from __future__ import annotations

import secrets

from metering.stripe_sync.standin.announcements import announce
from metering.stripe_sync.standin.customers import CUSTOMERS
from metering.stripe_sync.standin.destinations import Url
from metering.stripe_sync.standin.endpoint import Call, Endpoint, new_id
from metering.stripe_sync.standin.errors import missing_parameter, no_such
from metering.stripe_sync.standin.rules import Text, parameters, unserved
from metering.stripe_sync.standin.store import Document

PORTAL_SESSIONS = "billing_portal.session"
LINKS = "portal_link"
CONFIGURATION = "bpc_standin"

_CREATE = parameters(
    {
        "configuration": Text(),
        "customer": Text(),
        "locale": Text(10),
        "return_url": Url(),
        **unserved("after_expiration", "customer_account", "flow_data", "on_behalf_of"),
    }
)


def create(call: Call) -> Document:
    params = call.params
    if "customer" not in params:
        raise missing_parameter("customer")
    call.named(CUSTOMERS, "customer", params["customer"], param="customer")
    if params.get("configuration", CONFIGURATION) != CONFIGURATION:
        raise no_such("configuration", params["configuration"], param="configuration")
    secret = secrets.token_urlsafe(32)
    session = {
        "id": new_id("bps", 24),
        "object": PORTAL_SESSIONS,
        "configuration": CONFIGURATION,
        "created": call.timestamp,
        "customer": params["customer"],
        "customer_account": None,
        "flow": None,
        "livemode": False,
        "locale": params.get("locale"),
        "on_behalf_of": None,
        "return_url": params.get("return_url"),
        "url": f"{call.base_url}p/session/{secret}",
    }
    call.save(LINKS, {"id": secret, "session": session["id"]})
    announce(call, "billing_portal.session.created", call.save(PORTAL_SESSIONS, session))
    return session


ENDPOINTS = (Endpoint("POST", "/v1/billing_portal/sessions", _CREATE, create),)
