"""All settings, in one frozen object that is refused at start when something in it is wrong.

They come from the environment (`METERING_*`, Stripe's own names, `PORT`); the README's table is made from here.
"""

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from metering.errors import ConfigurationError

DEVELOPMENT_SECRET = "development-secret-that-production-refuses"  # noqa: S105 - refused in production
MIN_SECRET_LENGTH = 32
DEVELOPMENT_FILE = "development.json"
OWN_NAMES = {
    "port",
    "stripe_account_id",
    "stripe_api_key",
    "stripe_webhook_secret",
    "stripe_webhook_thin_secret",
}
"""Settings whose variables do not begin with METERING_."""
FINAL_BEAT_SECONDS = 300.0
"""What it takes to report a period's last usage: jobs run every half minute, and what waits before it is sent first."""

Seconds = Annotated[float, Field(gt=0)]


def _stripe(name: str, default: Any = None) -> Any:
    """A setting that keeps Stripe's own name in the environment."""
    return Field(default=default, validation_alias=AliasChoices(name, name.lower()))


class Settings(BaseSettings):
    """What an operator can set. Durations are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(env_prefix="METERING_", frozen=True, extra="forbid", populate_by_name=True)

    env: Literal["production", "development"] = "production"
    enabled: bool = True
    secret_key: SecretStr = SecretStr("")
    home: Path = Path("instance")
    port: int = Field(default=8000, ge=1, le=65535, validation_alias=AliasChoices("PORT", "port"))

    database_url: str | None = None
    redis_url: str | None = None
    queue_redis_url: str | None = None
    catalog: Path | None = None

    partitions: int = Field(default=16, ge=1, le=256)
    on_outage: Literal["deny", "allow"] = "deny"
    unknown_subject: Literal["refuse", "hold"] = "refuse"
    lease_seconds: Seconds = 30
    identity_window_seconds: Seconds = 24 * 3600
    idempotency_window_seconds: Seconds = 24 * 3600
    idempotency_max_bytes: int = Field(default=256 * 1024, ge=0)
    backlog_limit: int = Field(default=1_000_000, ge=1)
    max_body_bytes: int = Field(default=10 * 1024 * 1024, ge=1024)
    max_events: int = Field(default=10_000, ge=1)
    lateness_seconds: Seconds = 34 * 24 * 3600
    redis_timeout_seconds: Seconds = 2
    settle_delay_seconds: Seconds = 120
    period_grace_seconds: Seconds = 2700
    stripe_account_id: str | None = _stripe("STRIPE_ACCOUNT_ID")
    public_url: Annotated[str, Field(pattern=r"^https?://[^\s?#]+$")] | None = None
    trusted_proxies: int = Field(default=0, ge=0, le=10)
    sign_up: Literal["open", "closed"] | None = None

    smtp_host: str | None = None
    smtp_port: int = Field(default=587, ge=1, le=65535)
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    smtp_user: str | None = None
    smtp_password: SecretStr | None = None
    mail_from: str = "metering@localhost.localdomain"
    webhooks_to_loopback: bool = False

    stripe: Literal["off", "standin", "live"] = "off"
    stripe_api_key: SecretStr | None = _stripe("STRIPE_API_KEY")
    stripe_webhook_secret: SecretStr | None = _stripe("STRIPE_WEBHOOK_SECRET")
    stripe_webhook_thin_secret: SecretStr | None = _stripe("STRIPE_WEBHOOK_THIN_SECRET")
    stripe_api_base: str | None = None
    stripe_summary_delay_seconds: Annotated[float, Field(ge=0)] | None = None
    stripe_events_per_second: Annotated[float, Field(gt=0, lt=1000)] | None = None
    stripe_calls_per_second: Annotated[float, Field(gt=0, lt=100)] | None = None
    stripe_senders: int = Field(default=8, ge=1, le=64)
    stripe_finalizes_seconds: Annotated[float, Field(ge=3600, le=72 * 3600)] = 3600
    reconciliation_keep_days: int = Field(default=400, ge=1)

    @model_validator(mode="after")
    def _fit_together(self) -> "Settings":
        if self.stripe != "off" and self.stripe_api_key is None:
            raise ValueError(f"STRIPE_API_KEY must be set when METERING_STRIPE={self.stripe}")
        if self.stripe == "standin" and self.stripe_api_base is None:
            raise ValueError("METERING_STRIPE_API_BASE must name the stand-in when METERING_STRIPE=standin")
        return self

    @model_validator(mode="after")
    def _webhooks_leave_this_machine(self) -> "Settings":
        if self.webhooks_to_loopback and self.env == "production":
            raise ValueError("METERING_WEBHOOKS_TO_LOOPBACK is for development: customers could call what runs here")
        return self

    @model_validator(mode="after")
    def _stripe_fits(self) -> "Settings":
        if self.stripe == "off" or self.stripe_api_key is None:
            return self
        key = self.stripe_api_key.get_secret_value()
        if self.stripe == "live" and not key.startswith(("sk_live_", "sk_test_", "rk_live_", "rk_test_")):
            raise ValueError("STRIPE_API_KEY must be a secret or restricted key of Stripe's: sk_live_…, rk_test_…")
        if self.stripe_account_id is not None and not self.stripe_account_id.startswith("acct_"):
            raise ValueError("STRIPE_ACCOUNT_ID must be the id of an account: acct_…")
        latest = self.period_grace_seconds + self.settle_delay_seconds + FINAL_BEAT_SECONDS
        if self.stripe == "live" and latest > self.stripe_finalizes_seconds:
            raise ValueError(
                f"METERING_PERIOD_GRACE_SECONDS: usage that comes that late would miss its invoice, which Stripe makes "
                f"final {self.stripe_finalizes_seconds:g} s after the period (METERING_STRIPE_FINALIZES_SECONDS); "
                f"together with METERING_SETTLE_DELAY_SECONDS leave {FINAL_BEAT_SECONDS:g} s for reporting it"
            )
        return self

    @property
    def is_development(self) -> bool:
        return self.env == "development"

    @property
    def sends_mail(self) -> bool:
        """Whether e-mail reaches anybody: by an SMTP server, in development as a line of the log."""
        return self.smtp_host is not None or self.is_development

    @property
    def pages_url(self) -> str | None:
        """Where the pages are for people outside, with a slash at the end; None where nobody has said it."""
        if self.public_url:
            return self.public_url.rstrip("/") + "/"
        return f"http://localhost:{self.port}/" if self.is_development else None

    @property
    def sends_links(self) -> bool:
        """Whether links in e-mails lead here: what a request says of its host could be anybody's invention."""
        return self.sends_mail and self.pages_url is not None

    @property
    def sign_up_is_open(self) -> bool:
        """Unless it is said: in development only."""
        return self.sign_up == "open" or (self.sign_up is None and self.is_development)

    @property
    def flask_secret(self) -> str:
        return self.secret_key.get_secret_value() or DEVELOPMENT_SECRET

    @property
    def is_embedded(self) -> bool:
        """Whether any of the two servers is the embedded one."""
        return self.database_url is None or self.redis_url is None


def require_own_secret(settings: Settings) -> None:
    """In production the pages need a secret of one's own; as an extension the host has its own.

    Raises:
        ConfigurationError: the secret is missing, short, or the one of development.
    """
    secret = settings.secret_key.get_secret_value()
    if settings.is_development or (secret != DEVELOPMENT_SECRET and len(secret) >= MIN_SECRET_LENGTH):
        return
    raise ConfigurationError(
        f"METERING_SECRET_KEY must hold at least {MIN_SECRET_LENGTH} characters of your own in production "
        '(make one: python -c "import secrets; print(secrets.token_urlsafe(32))"); '
        "METERING_ENV=development goes without"
    )


def load_settings(**overrides: Any) -> Settings:
    """The settings of this process.

    A command that names no secret and no database of its own belongs to the development instance below METERING_HOME,
    if one was left running there: it takes that one's settings, so that commands work beside `make run` as they are.

    Raises:
        ConfigurationError: which setting is wrong, what it holds and what it should.
    """
    try:
        return Settings(**(overrides or _development_instance()))
    except ValidationError as error:
        raise ConfigurationError(_explain(error)) from None


def _development_instance() -> dict[str, Any]:
    own = ("METERING_ENV", "METERING_SECRET_KEY", "METERING_DATABASE_URL", "METERING_REDIS_URL")
    if any(name in os.environ for name in own):
        return {}
    path = Path(os.environ.get("METERING_HOME", "instance")) / DEVELOPMENT_FILE
    try:
        kept: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: value for name, value in kept.items() if variable(name) not in os.environ}


def keep_development_instance(settings: Settings) -> Path:
    """Write down what the commands beside a running development instance need; readable by us alone."""
    path = settings.home / DEVELOPMENT_FILE
    kept = {
        "env": settings.env,
        "secret_key": settings.secret_key.get_secret_value(),
        "stripe": settings.stripe,
        "stripe_api_key": settings.stripe_api_key.get_secret_value() if settings.stripe_api_key else None,
        "stripe_api_base": settings.stripe_api_base,
    }
    with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(kept, file)
    return path


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return name.upper() if name in OWN_NAMES else f"METERING_{name.upper()}"


def _explain(error: ValidationError) -> str:
    lines = ["The settings are wrong:"]
    for fault in error.errors(include_url=False, include_input=False):
        name = ".".join(str(part) for part in fault["loc"])
        shown = variable(name) if name in Settings.model_fields else name
        lines.append(f"  {shown + ': ' if name else ''}{fault['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)
