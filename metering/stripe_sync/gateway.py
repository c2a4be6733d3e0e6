"""Stripe, as the ledger and the sender see it: a handful of calls, and what each answer means for what was sent.

Always holds: an exception of Stripe's library becomes an outcome here and nowhere else; the key is never stored, shown
or logged; an account is named by Stripe's own id for it, so that changing a key never begins a new ledger, in which
everything would be owed again.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Protocol

import stripe

from metering.errors import ConfigurationError, MeteringError

API_VERSION = "2026-10-28.endive"
"""The version that stripe 16.1 was made for. Named, so that an upgrade of the library is a decision."""

PAGE = 100
"""The most that Stripe lists at once."""

NETWORK_RETRIES = 2
TIMEOUT_SECONDS = 10.0
STANDIN = "standin"
DUPLICATE = "An event already exists with identifier {}."


class Fate(StrEnum):
    """What became of a meter event, as far as is known."""

    ACCEPTED = "accepted"
    UNKNOWN = "unknown"  # it may have been counted: send it again under the same identifier, inside 24 hours
    RATE_LIMITED = "rate_limited"
    REFUSED = "refused"  # never again unchanged
    STOP = "stop"  # nothing will be accepted until an operator has acted


@dataclass(frozen=True, slots=True)
class Outcome:
    """`reason` is Stripe's own words, without any key, and `already` says that an earlier sending had counted.

    `concerns_one_object`: a 429 because several calls were about the same object at once; others may go on.
    """

    fate: Fate
    reason: str = ""
    already: bool = False
    concerns_one_object: bool = False


@dataclass(frozen=True, slots=True)
class MeterAtStripe:
    """A billing meter of the account. Only its display name can ever change, and whether it is active."""

    id: str
    event_name: str
    formula: str
    active: bool
    customer_payload_key: str
    value_payload_key: str
    display_name: str = ""


class StripeFailed(MeteringError):
    """A call to Stripe, other than a meter event, did not succeed; `outcome` says what to expect of a repetition."""

    code = "stripe-failed"

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(f"Stripe: {outcome.reason}", fate=outcome.fate.value)
        self.outcome = outcome


class NoSuchCustomer(StripeFailed):
    """Stripe knows no customer of the id that was asked for, so it has counted nothing under it."""


class NoSuchMeter(StripeFailed):
    """Stripe knows no meter of the id that was asked for."""


class KeyRefused(ConfigurationError):
    """Stripe does not take the key, or does not say whose it is: nothing can be sent until an operator acts."""


class StripeGateway(Protocol):
    """All that reporting needs of Stripe. Calls other than `send_meter_event` raise StripeFailed."""

    @property
    def account(self) -> str:
        """The account and mode that ledgers are kept by: `standin`, `test:acct_…` or `live:acct_…`."""

    @property
    def client(self) -> stripe.StripeClient:
        """For calls that have modules of their own."""

    def send_meter_event(
        self, event_name: str, payload: Mapping[str, str], *, identifier: str, timestamp: int, idempotency_key: str
    ) -> Outcome:
        """Report usage: `timestamp` in Unix seconds, `identifier` at most 100 characters. Never raises."""

    def summary(self, meter: str, customer: str, start: datetime, end: datetime) -> Decimal:
        """What Stripe has counted in `[start, end)`, whole minutes. Eventually consistent, and made of floats.

        Raises NoSuchCustomer, as does `daily_summaries`.
        """

    def daily_summaries(self, meter: str, customer: str, start: datetime, end: datetime) -> dict[datetime, Decimal]:
        """What Stripe has counted on each UTC day of `[start, end)`, whole days; a day without usage may be missing."""

    def meter(self, meter: str) -> MeterAtStripe:
        """Raises NoSuchMeter."""

    def find_or_create_meter(self, event_name: str, display_name: str) -> MeterAtStripe:
        """The meter of this event name, the active one first, made with the formula `sum` where there is none at all.

        One that was deactivated is never replaced by another: what was counted stays with it, and so do its prices.
        """

    def ensure_customer(self, key: str, name: str) -> str:
        """The id of a customer at Stripe for one of ours: made once, however often it is asked for within 24 hours.

        The caller keeps the id; after 24 hours another customer would be made.
        """


class PacedClient(stripe.RequestsClient):
    """Stripe's own way to send requests, which waits for its turn first."""

    def __init__(self, wait_for_turn: Callable[[], None] | None, *, timeout: float) -> None:
        super().__init__(timeout=timeout)
        self._wait_for_turn = wait_for_turn

    def request(self, *args: Any, **kwargs: Any) -> Any:
        if self._wait_for_turn is not None:
            self._wait_for_turn()
        return super().request(*args, **kwargs)


class StripeApi:
    """The gateway over Stripe's own library; with `base` over the stand-in, or a proxy."""

    def __init__(self, client: stripe.StripeClient, account: str) -> None:
        self._client = client
        self._account = account

    @property
    def account(self) -> str:
        return self._account

    @property
    def client(self) -> stripe.StripeClient:
        return self._client

    def send_meter_event(
        self, event_name: str, payload: Mapping[str, str], *, identifier: str, timestamp: int, idempotency_key: str
    ) -> Outcome:
        try:
            self._client.v1.billing.meter_events.create(
                {
                    "event_name": event_name,
                    "payload": dict(payload),
                    "identifier": identifier,
                    "timestamp": timestamp,
                },
                {"idempotency_key": idempotency_key},
            )
        except stripe.StripeError as error:
            return outcome_of(error, identifier)
        return Outcome(Fate.ACCEPTED)

    def summary(self, meter: str, customer: str, start: datetime, end: datetime) -> Decimal:
        try:
            found = self._client.v1.billing.meters.event_summaries.list(
                meter,
                {"customer": customer, "start_time": int(start.timestamp()), "end_time": int(end.timestamp())},
            )
            # repr is the shortest decimal that reads back as this float: what Stripe wrote.
            return sum((Decimal(repr(part.aggregated_value)) for part in found.auto_paging_iter()), Decimal(0))
        except stripe.StripeError as error:
            raise _failed(error) from error

    def daily_summaries(self, meter: str, customer: str, start: datetime, end: datetime) -> dict[datetime, Decimal]:
        try:
            found = self._client.v1.billing.meters.event_summaries.list(
                meter,
                {
                    "customer": customer,
                    "start_time": int(start.timestamp()),
                    "end_time": int(end.timestamp()),
                    "value_grouping_window": "day",
                    "limit": PAGE,
                },
            )
            return {
                datetime.fromtimestamp(part.start_time, UTC): Decimal(repr(part.aggregated_value))
                for part in found.auto_paging_iter()
            }
        except stripe.StripeError as error:
            raise _failed(error) from error

    def meter(self, meter: str) -> MeterAtStripe:
        try:
            return _meter(self._client.v1.billing.meters.retrieve(meter))
        except stripe.StripeError as error:
            if error.code == "resource_missing" or error.http_status == HTTPStatus.NOT_FOUND:
                raise NoSuchMeter(outcome_of(error)) from error
            raise _failed(error) from error

    def find_or_create_meter(self, event_name: str, display_name: str) -> MeterAtStripe:
        found = self._meter_named(event_name)
        if found is not None:
            return found
        try:
            return _meter(
                self._client.v1.billing.meters.create(
                    {
                        "display_name": display_name,
                        "event_name": event_name,
                        "default_aggregation": {"formula": "sum"},
                    }
                )
            )
        except stripe.StripeError as error:
            # Another process was quicker: an event name belongs to one active meter.
            if (found := self._meter_named(event_name)) is not None:
                return found
            raise _failed(error) from error

    def ensure_customer(self, key: str, name: str) -> str:
        # The key holds what is sent: another name under the same key would be refused.
        digest = hashlib.sha256(f"{self._account}\n{key}\n{name}".encode()).hexdigest()
        try:
            made = self._client.v1.customers.create(
                {"name": name, "metadata": {"metering_customer": key}}, {"idempotency_key": f"customer-{digest}"}
            )
        except stripe.StripeError as error:
            raise _failed(error) from error
        return made.id

    def meters_by_name(self) -> dict[str, MeterAtStripe]:
        """By event name the one that takes usage, else the newest that was deactivated. Raises StripeFailed."""
        try:
            listed = self._client.v1.billing.meters.list({"limit": PAGE})
            meters = [_meter(meter) for meter in listed.auto_paging_iter()]
        except stripe.StripeError as error:
            raise _failed(error) from error
        oldest_first = reversed(meters)
        return {meter.event_name: meter for meter in sorted(oldest_first, key=lambda meter: meter.active)}

    def _meter_named(self, event_name: str) -> MeterAtStripe | None:
        return self.meters_by_name().get(event_name)


def connect(
    api_key: str,
    *,
    standin: bool,
    api_base: str | None = None,
    account_id: str | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
    network_retries: int = NETWORK_RETRIES,
    wait_for_turn: Callable[[], None] | None = None,
) -> StripeApi:
    """A gateway for this key. Without `account_id` (`acct_…`) Stripe is asked for it, which needs the network.

    A `StripeClient` never retries unless told to, and waits for 80 seconds (observed with 16.1). `wait_for_turn` is
    called before each call, before those as well that the library repeats by itself.

    Raises:
        ConfigurationError: a live key or no address for the stand-in, or Stripe doesn't know the key.
        StripeFailed: Stripe could not be asked for the account.
    """
    if standin and (api_base is None or "_live_" in api_key):
        raise ConfigurationError("The Stripe stand-in needs its own address (METERING_STRIPE_API_BASE) and no live key")
    client = stripe.StripeClient(
        api_key,
        stripe_version=API_VERSION,
        base_addresses={"api": api_base} if api_base else {},
        max_network_retries=network_retries,
        http_client=PacedClient(wait_for_turn, timeout=timeout_seconds),
    )
    if standin:
        return StripeApi(client, STANDIN)
    mode = "live" if "_live_" in api_key else "test"
    return StripeApi(client, f"{mode}:{account_id or _account_id(client)}")


def outcome_of(error: stripe.StripeError, identifier: str | None = None) -> Outcome:
    """What an exception means. Source: Stripe's pages "Error handling" and "Recording usage" (meter events).

    A time-out, a reset, a 409 and a 5xx leave open whether the event was counted. The refusal of a duplicate names the
    identifier: if it is ours, an earlier sending had been counted, which is success.
    """
    reason = error.user_message or type(error).__name__
    match error:
        case stripe.RateLimitError():
            # `error.code` is None on a 429 (observed); the reason stands in a header alone.
            said = (error.headers or {}).get("stripe-rate-limited-reason", "")
            one = said == "resource-specific"
            return Outcome(Fate.RATE_LIMITED, f"rate limited ({said or 'no reason given'})", concerns_one_object=one)
        case stripe.InvalidRequestError() if identifier is not None and reason == DUPLICATE.format(identifier):
            return Outcome(Fate.ACCEPTED, reason, already=True)
        case stripe.InvalidRequestError() | stripe.IdempotencyError():
            return Outcome(Fate.REFUSED, f"{error.code}: {reason}" if error.code else reason)
        case stripe.AuthenticationError() | stripe.PermissionError():
            return Outcome(Fate.STOP, reason)
        case _:
            return Outcome(Fate.UNKNOWN, reason)


def _failed(error: stripe.StripeError) -> StripeFailed:
    """Source: Stripe's page "Error codes": `resource_missing`, with the parameter that named the missing object."""
    match error:
        case stripe.InvalidRequestError(code="resource_missing", param="customer"):
            return NoSuchCustomer(outcome_of(error))
    return StripeFailed(outcome_of(error))


def _account_id(client: stripe.StripeClient) -> str:
    try:
        return client.v1.accounts.retrieve_current().id
    except (stripe.AuthenticationError, stripe.PermissionError) as error:
        raise KeyRefused(
            f"Stripe does not say which account STRIPE_API_KEY belongs to ({error.user_message}); "
            "for a restricted key set STRIPE_ACCOUNT_ID"
        ) from None
    except stripe.StripeError as error:
        raise _failed(error) from error


def _meter(meter: stripe.billing.Meter) -> MeterAtStripe:
    return MeterAtStripe(
        id=meter.id,
        event_name=meter.event_name,
        formula=meter.default_aggregation.formula,
        active=meter.status == "active",
        customer_payload_key=meter.customer_mapping.event_payload_key,
        value_payload_key=meter.value_settings.event_payload_key,
        display_name=meter.display_name,
    )
