"""Sessions are for pages: the API knows its callers by their keys, and neither reads nor sets a cookie."""

from flask import Flask, Request, Response, request
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface, SessionMixin

API = "/api"
WEBHOOKS = "/webhooks"


def is_api(path: str) -> bool:
    """Whether programs call it: the API, and where other services send what they have to tell."""
    return any(path == one or path.startswith(f"{one}/") for one in (API, WEBHOOKS))


class PageSessions(SecureCookieSessionInterface):
    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        return SecureCookieSession() if is_api(request.path) else super().open_session(app, request)

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Nor does an answer of the API vary with cookies: it may be kept for all."""
        if not is_api(request.path):
            super().save_session(app, session, response)
