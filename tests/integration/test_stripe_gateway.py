"""What Stripe answers, and what its library makes of it, becomes one of five outcomes; an account keeps its name."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import stripe
from sqlalchemy import Engine

from metering.errors import ConfigurationError
from metering.stripe_sync.gateway import Fate, StripeFailed, connect, outcome_of
from tests.factories.ledger import Books, arm, owed_rows
from tests.factories.standin import KEY, StandinProcess
from tests.factories.world import START, World


@pytest.fixture
def books(world: World, standin: StandinProcess, engine: Engine) -> Books:
    return Books(world, standin, engine).open()


class TestGateway:
    """What each exception of the library means, beyond those that the stand-in makes."""

    def test_a_duplicate_of_another_identifier_is_a_refusal(self) -> None:
        error = stripe.InvalidRequestError("An event already exists with identifier a.", None)
        assert outcome_of(error, "a").fate is Fate.ACCEPTED
        assert outcome_of(error, "b").fate is Fate.REFUSED
        assert outcome_of(error).fate is Fate.REFUSED

    @pytest.mark.parametrize(
        ("error", "fate"),
        [
            (stripe.APIConnectionError("away"), Fate.UNKNOWN),
            (stripe.APIError("409", http_status=409), Fate.UNKNOWN),
            (stripe.RateLimitError("slow down"), Fate.RATE_LIMITED),
            (stripe.IdempotencyError("key"), Fate.REFUSED),
            (stripe.PermissionError("no"), Fate.STOP),
            (stripe.StripeError("new kind"), Fate.UNKNOWN),
        ],
    )
    def test_the_table(self, error: stripe.StripeError, fate: Fate) -> None:
        assert outcome_of(error).fate is fate

    def test_a_rate_limit_says_which(self, books: Books) -> None:
        owed_rows(books)
        arm(books, "rate_limit", reason="endpoint-rate")
        books.send()

        assert books.rows()[0].fault == "rate limited (endpoint-rate)"

    def test_a_summary_is_what_was_counted(self, books: Books) -> None:
        owed_rows(books, hours=2)
        books.send()
        customer = books.rows()[0].stripe_customer_id
        at = books.gateway().find_or_create_meter("api_call", "ignored: it is there")

        day = (START, START + timedelta(days=1))
        assert books.gateway().summary(at.id, customer, *day) == Decimal(16)
        with pytest.raises(StripeFailed):
            books.gateway().summary("mtr_none", customer, *day)

    def test_a_customer_is_made_once(self, books: Books) -> None:
        gateway = books.gateway()

        assert (
            gateway.ensure_customer("a", "A") == gateway.ensure_customer("a", "A") != gateway.ensure_customer("b", "B")
        )

    def test_a_live_key_never_reaches_a_stand_in(self) -> None:
        with pytest.raises(ConfigurationError):
            connect("sk_live_1", standin=True, api_base="http://127.0.0.1:1")
        with pytest.raises(ConfigurationError):
            connect(KEY, standin=True)

    def test_the_account_is_stripes_own_id_and_mode_whatever_the_key(self) -> None:
        with account_server() as url:
            names = {
                key: connect(key, standin=False, api_base=url).account
                for key in ("sk_test_1", "sk_live_2", "sk_test_3")
            }
            assert names == {"sk_test_1": "test:acct_9", "sk_live_2": "live:acct_9", "sk_test_3": "test:acct_9"}
            with pytest.raises(ConfigurationError, match="STRIPE_ACCOUNT_ID"):
                connect("rk_test_restricted", standin=False, api_base=url)
            assert (
                connect("rk_test_restricted", standin=False, api_base=url, account_id="acct_9").account == "test:acct_9"
            )


class account_server:  # noqa: N801 - reads as a function
    """Answers `/v1/account`, which the stand-in does not have, as Stripe does."""

    def __enter__(self) -> str:
        self._server = HTTPServer(("127.0.0.1", 0), _Account)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Account(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        allowed = "restricted" not in self.headers["Authorization"]
        refusal = {
            "error": {
                "message": "The provided key does not have the required permissions",
                "type": "invalid_request_error",
            }
        }
        body = json.dumps({"id": "acct_9", "object": "account"} if allowed else refusal).encode()
        self.send_response(200 if allowed else 403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing to say."""
