"""The one account that every test key opens. Source: Stripe's API reference, "Accounts"."""

from __future__ import annotations

from metering.stripe_sync.standin.endpoint import Call, Endpoint
from metering.stripe_sync.standin.rules import parameters
from metering.stripe_sync.standin.store import Document

ACCOUNT_ID = "acct_standin"


def retrieve(call: Call) -> Document:
    return {
        "id": ACCOUNT_ID,
        "object": "account",
        "business_profile": None,
        "business_type": None,
        "capabilities": {},
        "charges_enabled": True,
        "controller": {"type": "account"},
        "country": "US",
        "created": 0,
        "default_currency": "usd",
        "details_submitted": True,
        "email": None,
        "metadata": {},
        "payouts_enabled": True,
        "settings": None,
        "type": "standard",
    }


ENDPOINTS = (Endpoint("GET", "/v1/account", parameters(), retrieve),)
