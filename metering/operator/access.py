"""Who may come into the console: the one place that lets operators in.

Always holds: whoever is no operator is told that there is no such page; a change is made in one transaction, audited as
`user:EMAIL`, and in force once it is committed.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import wraps
from typing import Any

from flask import flash, redirect, request
from flask.typing import ResponseReturnValue
from redis.exceptions import RedisError

from metering.accounts import changes
from metering.dashboard.access import current_metering, logged_in_user, user_ref
from metering.dashboard.view_models import UserRef
from metering.errors import MeteringError, NotFound
from metering.extensions import db, login
from metering.runtime import Runtime
from metering.stripe_sync.gateway import StripeFailed

View = Callable[..., ResponseReturnValue]


@dataclass(frozen=True, slots=True)
class Operator:
    """Who looks, and what they look at."""

    user: UserRef
    runtime: Runtime

    @property
    def actor(self) -> str:
        """Who the audit log names."""
        return f"user:{self.user.email}"

    def changing(self) -> AbstractContextManager[changes.Change]:
        return changes.change(self.runtime, self.actor)


def operator_page(view: View) -> View:
    """Give the view the `Operator`: the login page for nobody, 404 for a user who is none."""

    @wraps(view)
    def guarded(**rest: Any) -> ResponseReturnValue:
        user = logged_in_user()
        if user is None:
            answer: ResponseReturnValue = login.unauthorized()
            return answer
        if not user.operator:
            raise NotFound("there is no such page")
        operator = Operator(user_ref(user), current_metering().runtime)
        operator.runtime.refresh_meters()
        return view(operator, **rest)

    return guarded


def operator_action(back: Callable[..., str]) -> Callable[[Callable[..., str]], View]:
    """A change: what the view returns is said on the page that `back` names, and so is why it could not be done.

    `back` gets the parameters of the address. Forms may name another page of the console in `back`.
    """

    def decorate(view: Callable[..., str]) -> View:
        @wraps(view)
        @operator_page
        def guarded(operator: Operator, **rest: Any) -> ResponseReturnValue:
            try:
                flash(view(operator, **rest), "success")
            except NotFound:
                raise
            except StripeFailed as error:
                db.session.rollback()
                flash(f"Stripe does not do it: {error.message}", "error")
            except MeteringError as error:
                db.session.rollback()
                flash(f"Not done: {error.message}.", "error")
            except RedisError:
                flash("Not done: Redis does not answer.", "error")
            return redirect(_asked_for() or back(**rest), 303)

        return guarded

    return decorate


def _asked_for() -> str | None:
    """Where the form wants to go back to: pages of the console alone."""
    wanted = request.form.get("back", "")
    inside = wanted == "/operator" or wanted.startswith("/operator/") or wanted.startswith("/operator?")
    return wanted if inside and wanted.isprintable() and "\\" not in wanted else None


def note_of(name: str = "note") -> str:
    """What the form says about why. Raises Missing."""
    note = request.form.get(name, "").strip()
    if not note:
        raise Missing("this needs a note that says why")
    return note[:1000]


class Missing(MeteringError):
    """A form was sent without what it needs."""

    code = "invalid-request"
