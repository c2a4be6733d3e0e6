"""The composition root: the only place that puts the product together as a service of its own."""

import secrets
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
from flask import Flask, Response, g, request
from flask.typing import ResponseReturnValue
from gunicorn.http.errors import ParseException
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import BadRequest, HTTPException
from werkzeug.middleware.proxy_fix import ProxyFix

from metering import api, cli, dashboard, operator, webhooks
from metering.accounts import login as accounts_login
from metering.api.bodies import InvalidRequest
from metering.clock import Clock, utc_now
from metering.demo import refuse_demo
from metering.errors import IntakeUnavailable, MeteringError
from metering.extensions import csrf, db, login, login_throttle, migrate
from metering.health import blueprint as health
from metering.logs import configure_logs
from metering.pages import error_page
from metering.problems import http_problem, problem
from metering.runtime import ENGINE_OPTIONS, Runtime, build_runtime
from metering.service import Metering
from metering.sessions import PageSessions, is_api
from metering.settings import Settings, load_settings, require_own_secret
from metering.wellformed import fault_of

PACKAGE = Path(__file__).resolve().parent
# In a checkout the folders stand beside the package, in a wheel inside it.
ASSETS = PACKAGE if (PACKAGE / "templates").is_dir() else PACKAGE.parent
MIGRATIONS = PACKAGE / "migrations"

CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ]
)
MAX_REQUEST_ID = 64
REMEMBERED = timedelta(days=30)

log = structlog.get_logger("metering.app")


class Service(Flask):
    """Flask, with errors in our own logs: with the request's id, and without secrets."""

    session_interface = PageSessions()

    def log_exception(self, exc_info: Any) -> None:
        log.error("request_failed", method=request.method, path=request.path, exc_info=exc_info)


def create_app(settings: Settings | None = None, *, clock: Clock = utc_now) -> Flask:
    """The product, ready to serve.

    Raises:
        ConfigurationError: a setting or the catalog is wrong, or production lacks a secret of its own.
    """
    settings = settings or load_settings()
    require_own_secret(settings)
    configure_logs(settings)
    app = Service("metering", template_folder=str(ASSETS / "templates"), static_folder=str(ASSETS / "static"))
    runtime = build_runtime(settings, clock=clock)
    _configure(app, settings, runtime)
    _name_requests(app)  # first of all: what an extension refuses has its id, too
    _bind_extensions(app)
    _refuse_demo_in_production(runtime)
    metering = Metering(app, settings=settings, clock=clock, runtime=runtime)
    for blueprint in (*api.BLUEPRINTS, *dashboard.BLUEPRINTS, operator.blueprint, webhooks.blueprint, health):
        app.register_blueprint(blueprint)
    app.cli.add_command(cli.commands)
    _answer_errors(app, metering)
    _protect_answers(app)
    _believe_proxies(app, settings.trusted_proxies)
    return app


def _believe_proxies(app: Flask, number: int) -> None:
    """Take the visitor's address and scheme from what the last `number` proxies said. What stands before that in
    X-Forwarded-For anybody may have written, so without proxies none of it is read.
    """
    if number:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=number, x_proto=number)  # type: ignore[method-assign]


def _refuse_demo_in_production(runtime: Runtime) -> None:
    """Only where there is a database with users; without one there is nobody to log in."""
    if runtime.settings.is_development:
        return
    try:
        with runtime.transaction() as session:
            refuse_demo(session)
    except SQLAlchemyError as error:
        log.warning("demo_not_checked", detail=str(error).splitlines()[0])


def _configure(app: Flask, settings: Settings, runtime: Runtime) -> None:
    app.url_map.merge_slashes = False  # an address with one slash too many is another one, not a redirect
    app.config.update(
        SECRET_KEY=settings.flask_secret,
        SQLALCHEMY_DATABASE_URI=runtime.addresses.database_url,
        # A connection that died with the server is replaced unnoticed: pages come back by themselves.
        SQLALCHEMY_ENGINE_OPTIONS=ENGINE_OPTIONS,
        MAX_CONTENT_LENGTH=settings.max_body_bytes,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SECURE=not settings.is_development,
        REMEMBER_COOKIE_DURATION=REMEMBERED,
        REMEMBER_COOKIE_SAMESITE="Lax",
        REMEMBER_COOKIE_HTTPONLY=True,
        REMEMBER_COOKIE_SECURE=not settings.is_development,
        SEND_FILE_MAX_AGE_DEFAULT=3600,
        RATELIMIT_STORAGE_URI="redis://",
        RATELIMIT_STORAGE_OPTIONS={"connection_pool": runtime.redis.connection_pool},
        RATELIMIT_KEY_PREFIX="login",
        RATELIMIT_IN_MEMORY_FALLBACK_ENABLED=True,  # while Redis is away each process counts for itself
        WTF_CSRF_TIME_LIMIT=None,
        WTF_CSRF_SSL_STRICT=not settings.is_development,
    )


def _bind_extensions(app: Flask) -> None:
    db.init_app(app)
    migrate.init_app(app, db, directory=str(MIGRATIONS))
    csrf.init_app(app)
    login_throttle.init_app(app)
    # Without its context processor: templates get `shell`, and an error page must not look for a user in PostgreSQL.
    login.init_app(app, add_context_processor=False)
    accounts_login.bind(login)
    for blueprint in api.BLUEPRINTS:
        csrf.exempt(blueprint)  # a key in a header cannot be sent by somebody else's page
    csrf.exempt(webhooks.blueprint)  # nor can a signature


def _answer_errors(app: Flask, metering: Metering) -> None:
    """Problem details under /api, a page elsewhere; never a stack trace."""

    @app.errorhandler(MeteringError)
    def _own(error: MeteringError) -> ResponseReturnValue:
        return problem(error, metering.runtime.clock) if _is_api() else error_page(error)

    @app.errorhandler(OperationalError)
    @app.errorhandler(PoolTimeout)
    def _database(error: SQLAlchemyError) -> ResponseReturnValue:
        log.warning("database_unavailable", detail=str(error).splitlines()[0])
        return _own(IntakeUnavailable("the database does not answer"))

    @app.errorhandler(ParseException)
    def _broken_body(error: ParseException) -> ResponseReturnValue:
        """Chunks that are none show only when the body is read, in the middle of a view."""
        return _http(BadRequest("The body cannot be read: its chunks are broken."))

    @app.errorhandler(HTTPException)
    def _http(error: HTTPException) -> ResponseReturnValue:
        if error.code is not None and error.code < 400:
            return error.get_response()  # a redirect is an answer, not a fault
        return http_problem(error) if _is_api() else error_page(error)


def _is_api() -> bool:
    return is_api(request.path)


def _name_requests(app: Flask) -> None:
    """A request id on every request; then a look at whether its address is one."""

    @app.before_request
    def _name_request() -> None:
        given = request.headers.get("X-Request-Id", "")
        usable = 0 < len(given) <= MAX_REQUEST_ID and given.isascii() and given.replace("-", "").isalnum()
        g.request_id = given if usable else secrets.token_hex(8)
        request.environ["metering.request_id"] = g.request_id

    @app.before_request
    def _expect_the_whole_body() -> None:
        """gunicorn ends a body that broke off without a word: half a file would be kept as a whole one. Told that the
        end is not marked, Werkzeug counts, and answers 400.
        """
        if request.content_length is not None:
            request.environ.pop("wsgi.input_terminated", None)

    @app.before_request
    def _refuse_malformed() -> None:
        if fault := fault_of(request.environ):
            raise InvalidRequest(f"The request is not as it should be: {fault}")


def _policy(form_targets: Iterable[str]) -> str:
    """`form_targets`: other origins that a form of this page may lead to; browsers look at redirects, too."""
    return CONTENT_SECURITY_POLICY.replace("form-action 'self'", " ".join(["form-action 'self'", *form_targets]))


def _protect_answers(app: Flask) -> None:
    """What keeps browsers from being talked into mischief, and the request's id."""

    @app.after_request
    def _protect(response: Response) -> Response:
        response.headers["X-Request-Id"] = g.get("request_id", "")
        response.headers.setdefault("Content-Security-Policy", _policy(g.get("form_targets", ())))
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("Referrer-Policy", "same-origin")
        if request.endpoint != "static":
            response.headers.setdefault("Cache-Control", "private, no-store")
        return response
