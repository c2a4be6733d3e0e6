"""Addresses of pages as they stand in e-mails, and which of the forms may send some."""

import hashlib
from typing import Any

from flask import request, session, url_for
from flask_limiter.util import get_remote_address

from metering.dashboard.access import current_metering

OFTEN = "10 per minute"
SELDOM = "10 per minute;30 per hour"


def mail_works() -> bool:
    return current_metering().settings.sends_links


def base_url() -> str:
    """Of the pages. A request says what it likes of its host, so it is believed in development alone."""
    settings = current_metering().settings
    if settings.public_url:
        return settings.public_url.rstrip("/") + "/"
    return request.url_root if settings.is_development else "/"


def link_to(endpoint: str, **values: Any) -> str:
    return base_url().rstrip("/") + url_for(endpoint, **values)


def named_email() -> str:
    """For counting tries. Hashed: the store that counts need not know who they were for."""
    return hashlib.sha256(request.form.get("email", "").strip().lower().encode()).hexdigest()


def session_user() -> str:
    """For counting tries of whoever is logged in, from wherever."""
    return str(session.get("_user_id", "")).partition(".")[0] or get_remote_address()
