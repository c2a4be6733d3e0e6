"""`python -m metering`: the whole product on this machine, for development. What `make run` starts.

Starts the embedded servers, makes a demo customer, then web, worker and the Stripe stand-in under one supervisor. In
production each of these is started by itself; see the README.
"""

import os
import secrets
import sys
import threading
import urllib.request
from pathlib import Path

from metering import background
from metering.clock import utc_now
from metering.demo import Demo, make_demo
from metering.embedded import Embedded, EmbeddedError
from metering.embedded.locks import Lock
from metering.errors import ConfigurationError, MeteringError
from metering.initialise import initialise
from metering.runtime import build_runtime
from metering.settings import DEVELOPMENT_FILE, Settings, keep_development_instance, load_settings
from metering.standin_setup import set_up_standin
from metering.supervisor import Command, supervise

STANDIN_KEY = "sk_test_standin"
WEB_THREADS = 8
LOOK_SECONDS = 1.0


def main() -> int:
    try:
        _set_defaults(os.environ)
        settings = load_settings()
        run = settings.home.resolve() / "run"
        run.mkdir(parents=True, exist_ok=True)
        with Lock(run / "product.lock") as alone:
            if not alone.take():
                raise ConfigurationError(
                    f"The product of {settings.home} runs already; another needs a METERING_HOME too."
                )
            return _run(settings)
    except (MeteringError, EmbeddedError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1


def _set_defaults(environment: "os._Environ[str]") -> None:
    """What development needs and the environment does not say; children inherit it."""
    port = environment.get("PORT", "8000")
    environment.setdefault("METERING_ENV", "development")
    if environment.setdefault("METERING_STRIPE", "standin") == "standin":
        environment.setdefault("STRIPE_API_KEY", STANDIN_KEY)
        standin_port = int(port) + 1 if port.isdigit() else 8001
        environment.setdefault("METERING_STRIPE_API_BASE", f"http://127.0.0.1:{standin_port}")


def _run(settings: Settings) -> int:
    home = settings.home.resolve()
    embedded = Embedded(home, report=say) if settings.is_embedded else None
    stopping = threading.Event()
    try:
        if embedded:
            say(f"starting PostgreSQL and Redis, data in {home}")
            embedded.start()
        os.environ.setdefault("METERING_SECRET_KEY", _secret(home, "secret-key"))
        if settings.stripe == "standin":
            # The stand-in is told both: it signs with what it is given.
            os.environ.setdefault("STRIPE_WEBHOOK_SECRET", _secret(home, "webhook-secret"))
            os.environ.setdefault("STRIPE_WEBHOOK_THIN_SECRET", _secret(home, "webhook-thin-secret"))
        settings = load_settings()
        keep_development_instance(settings)
        demo = _prepare(settings)
        say("starting web, worker and Stripe stand-in")
        if embedded:
            threading.Thread(target=_bring_back, args=(embedded, stopping), daemon=True).start()
        threading.Thread(target=_welcome, args=(settings, demo), daemon=True).start()
        return supervise(_commands(settings))
    finally:
        stopping.set()
        (home / DEVELOPMENT_FILE).unlink(missing_ok=True)
        if embedded:
            say("stopping PostgreSQL and Redis")
            embedded.stop()


def _bring_back(embedded: Embedded, stopping: threading.Event) -> None:
    """Start a server again that has died; what uses it waits and goes on by itself."""
    while not stopping.wait(LOOK_SECONDS):
        if embedded.addresses() is None and not stopping.is_set():
            say("PostgreSQL or Redis has died: starting it again")
            try:
                embedded.start()
            except EmbeddedError as error:
                say(str(error))


def _prepare(settings: Settings) -> Demo:
    runtime = build_runtime(settings, clock=utc_now)
    try:
        initialise(runtime, report=say)
        return make_demo(runtime, settings.home)
    finally:
        runtime.close()


def _commands(settings: Settings) -> list[Command]:
    python = sys.executable
    gunicorn = [python, "-m", "gunicorn", "wsgi:app", "--bind", f"127.0.0.1:{settings.port}"]
    gunicorn += ["--preload", "--workers", "2", "--threads", str(WEB_THREADS)]
    gunicorn += ["--no-control-socket", "--log-level", "warning"]
    commands = [Command("web", gunicorn)]
    for role in background.ROLES:
        commands.append(Command(role, [python, "worker.py", "--only", role]))
    if settings.stripe == "standin" and settings.stripe_api_base:
        port = settings.stripe_api_base.rpartition(":")[2]
        store = str(settings.home.resolve() / "standin")
        standin = [python, "-m", "metering.stripe_sync.standin", "--port", port, "--store", store]
        commands.append(Command("stripe", standin))
    return commands


def _secret(home: Path, name: str) -> str:
    """A secret of this machine's own, so that sessions outlive a restart and are worth nothing elsewhere."""
    path = home / name
    if not path.exists():
        home.mkdir(parents=True, exist_ok=True)
        with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(48))
    return path.read_text()


def _welcome(settings: Settings, demo: Demo) -> None:
    """What to do first, said once it works."""
    address = f"http://127.0.0.1:{settings.port}"
    _wait_for(f"{address}/readyz")
    if settings.stripe == "standin":
        runtime = build_runtime(settings, clock=utc_now)
        set_up_standin(runtime, address, report=say)
        runtime.close()
    lines = [
        "",
        f"  Dashboard   {address}",
        f"  Operators   {address}/operator",
        f"  Log in      {demo.email}  /  {demo.password}",
        f"  Call it     curl -H 'Authorization: Bearer {demo.api_key}' {address}/api/v1/sample/ping",
    ]
    if settings.stripe == "standin":
        lines.append(f"  Stripe      {settings.stripe_api_base}/_standin/  (a local stand-in)")
    print("\n".join([*lines, "", "  Ctrl-C stops everything.", ""]), flush=True)


def _wait_for(url: str) -> None:
    wait = threading.Event()
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - our own address
                return
        except OSError:
            wait.wait(0.1)


def say(what: str) -> None:
    print(f"== {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
