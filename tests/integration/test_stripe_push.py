"""The catalog at Stripe: made once, found again whatever was lost, and never changed where somebody has bought it."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import stripe
from click.testing import Result
from flask import Flask
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from metering import failpoints
from metering.catalog import load_catalog
from metering.embedded import Addresses
from metering.errors import Conflict
from metering.models import AuditEntry, StripeMeter, StripePrice
from metering.runtime import build_runtime
from metering.settings import load_settings
from metering.store.meters import meter_ids
from metering.stripe_sync.gateway import STANDIN, connect
from metering.stripe_sync.meters import find_meters, link_meters
from metering.stripe_sync.prices import plan_of, prices_of
from metering.stripe_sync.push.plan import changes
from metering.stripe_sync.push.run import look, push
from tests.conftest import running_app
from tests.factories.forks import FORKS
from tests.factories.standin import KEY, StandinProcess
from tests.factories.world import PARTITIONS, World

METERS = ("api_call", "storage_bytes", "tokens", "compute_seconds", "messages", "seats")
PLANS = ("free", "pro", "enterprise")
OBJECTS = 2 * (len(METERS) + len(PLANS)) + len(METERS)
DEFAULT = Path(__file__).parents[2] / "metering" / "catalog" / "default.toml"


@pytest.fixture
def stripe_client(standin: StandinProcess) -> stripe.StripeClient:
    return standin.client()


Selling = Callable[..., AbstractContextManager[Flask]]


@pytest.fixture
def selling(world: World, standin: StandinProcess, servers: Addresses, tmp_path: Path) -> Selling:
    """An application over the stand-in, with pairs of words of the default catalog replaced."""

    def sell(*replaced: tuple[str, str]) -> AbstractContextManager[Flask]:
        return running_app(world, tmp_path, **settings_of(standin, servers, tmp_path, *replaced))

    return sell


@pytest.fixture
def app(selling: Selling) -> Iterator[Flask]:
    with selling() as app:
        yield app


def settings_of(
    standin: StandinProcess, servers: Addresses, folder: Path, *replaced: tuple[str, str]
) -> dict[str, Any]:
    said = DEFAULT.read_text()
    for old, new in replaced:
        assert said.count(old) == 1, old
        said = said.replace(old, new)
    (folder / "catalog.toml").write_text(said)
    return {
        "database_url": servers.database_url,
        "redis_url": servers.redis_url,
        "stripe": "standin",
        "stripe_api_key": KEY,
        "stripe_api_base": standin.url,
        "catalog": folder / "catalog.toml",
    }


def run(app: Flask, *words: str, status: int | None = 0, stdin: str = "") -> Result:
    result = app.test_cli_runner().invoke(args=["metering", "stripe", "push", *words], input=stdin)
    assert status is None or result.exit_code == status, result.output
    assert "Traceback" not in result.output
    return result


def pushed(app: Flask) -> Counter[str]:
    """A push, and how often it did what."""
    return Counter(step["action"] for step in json.loads(run(app, "--yes", "--json").stdout)["steps"])


def prices(client: stripe.StripeClient, **more: Any) -> list[stripe.Price]:
    params: Any = {"limit": 100, "expand": ["data.tiers"], **more}
    return list(client.v1.prices.list(params).auto_paging_iter())


def by_key(client: stripe.StripeClient) -> dict[str, stripe.Price]:
    """The active prices by lookup key: each must have one, and no two the same."""
    active = prices(client, active=True)
    found = {price.lookup_key or price.id: price for price in active}
    assert len(found) == len(active)
    return found


def check_whole(client: stripe.StripeClient) -> None:
    """Everything of the default catalog is there, once."""
    assert sorted(meter.event_name for meter in client.v1.billing.meters.list({"limit": 100})) == sorted(METERS)
    assert {product.id for product in client.v1.products.list({"limit": 100, "active": True})} == {
        *(f"metering_plan_{plan}" for plan in PLANS),
        *(f"metering_meter_{meter}" for meter in METERS),
    }
    assert set(by_key(client)) == {
        *(f"metering:plan:{plan}" for plan in PLANS),
        *(f"metering:meter:{meter}" for meter in METERS),
    }


class TestPush:
    def test_a_dry_run_shows_everything_and_does_nothing(
        self, app: Flask, stripe_client: stripe.StripeClient, session: Session
    ) -> None:
        shown = run(app, "--dry-run").stdout

        assert "+ price    metering:plan:pro  4900 usd minor (pro)" in shown
        assert "up to 5000000000: 0, then: 0.000000002 usd minor (free, pro, enterprise)" in shown
        assert f"{OBJECTS} to create" in shown
        assert not prices(stripe_client)
        assert not stripe_client.v1.products.list().data
        assert not stripe_client.v1.billing.meters.list().data
        assert session.scalars(select(StripePrice)).all() == session.scalars(select(StripeMeter)).all() == []

    def test_a_push_makes_everything_once(self, app: Flask, stripe_client: stripe.StripeClient) -> None:
        assert pushed(app) == {"create": OBJECTS}
        check_whole(stripe_client)

        assert run(app).stdout.strip() == "nothing to do"  # and does not ask
        assert pushed(app) == {"same": OBJECTS}
        check_whole(stripe_client)
        assert len(prices(stripe_client)) == len(METERS) + len(PLANS)

    def test_what_is_made_is_what_the_catalog_says(self, app: Flask, stripe_client: stripe.StripeClient) -> None:
        pushed(app)

        found = by_key(stripe_client)
        base = found["metering:plan:pro"]
        assert (base.unit_amount, base.currency, base.product) == (4900, "usd", "metering_plan_pro")
        assert base.recurring is not None
        assert (base.recurring.interval, base.recurring.usage_type) == ("month", "licensed")
        storage = found["metering:meter:storage_bytes"]
        assert storage.recurring is not None
        assert storage.recurring.usage_type == "metered"
        assert storage.tiers_mode == "graduated"
        assert [(tier.up_to, tier.unit_amount_decimal) for tier in storage.tiers or ()] == [
            (5_000_000_000, Decimal(0)),
            (None, Decimal("0.000000002")),
        ]
        product = stripe_client.v1.products.retrieve("metering_meter_storage_bytes")
        assert (product.name, product.description) == ("Storage", "One unit is 0.000000001 GB-month.")
        assert stripe_client.v1.products.retrieve("metering_meter_api_call").description is None

    def test_it_asks_first(self, app: Flask, stripe_client: stripe.StripeClient, session: Session) -> None:
        run(app, stdin="n\n", status=1)
        assert not prices(stripe_client)

        run(app, stdin="y\n")
        check_whole(stripe_client)
        entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "stripe.push")).one()
        assert len(entry.detail["steps"]) == OBJECTS

    def test_what_was_agreed_on_is_all_that_is_done(self, selling: Selling) -> None:
        with selling() as app:
            runtime = app.extensions["metering"].runtime
            agreed = changes(look(runtime))
            with pytest.raises(Conflict, match="look at it again"):
                push(runtime, agreed[:-1], actor="test")
            assert all(step.id for step in push(runtime, agreed, actor="test"))

    def test_off_means_off(self, world: World, servers: Addresses, tmp_path: Path) -> None:
        addresses = {"database_url": servers.database_url, "redis_url": servers.redis_url}
        with running_app(world, tmp_path, **addresses) as app:
            assert "METERING_STRIPE is off" in run(app, "--dry-run", status=1).output


class TestChanges:
    def test_a_changed_price_becomes_a_new_one_and_the_old_one_stays_for_who_has_it(
        self, selling: Selling, stripe_client: stripe.StripeClient, session: Session
    ) -> None:
        with selling() as app:
            pushed(app)
        before = by_key(stripe_client)
        with selling(('base_fee = "49"', 'base_fee = "59"')) as app:
            shown = run(app, "--yes").stdout

        after = by_key(stripe_client)
        old, new = before["metering:plan:pro"].id, after["metering:plan:pro"]
        assert "+ price    metering:plan:pro  5900 usd minor (pro)" in shown
        assert "- price    metering:plan:pro  replaced: 4900 usd minor" in shown
        assert new.unit_amount == 5900
        assert stripe_client.v1.prices.retrieve(old).active is False
        assert {key: price.id for key, price in after.items()} | {"metering:plan:pro": old} == {
            key: price.id for key, price in before.items()
        }
        assert prices_of(session, STANDIN, "pro")[0] == new.id
        assert plan_of(session, STANDIN, [old]) == plan_of(session, STANDIN, [new.id]) == "pro"

    def test_a_price_that_comes_back_is_a_new_one_again(
        self, selling: Selling, stripe_client: stripe.StripeClient
    ) -> None:
        """Within 24 hours Stripe would answer for the first one, had both the same Idempotency-Key."""
        ids = []
        for fee in ("49", "59") * 6:
            with selling(('base_fee = "49"', f'base_fee = "{fee}"')) as app:
                pushed(app)
            price = by_key(stripe_client)["metering:plan:pro"]
            assert price.unit_amount == int(fee) * 100
            ids.append(price.id)
        assert len(set(ids)) == 12

    def test_a_name_is_changed_in_place(self, selling: Selling, stripe_client: stripe.StripeClient) -> None:
        with selling() as app:
            pushed(app)
        before = {key: price.id for key, price in by_key(stripe_client).items()}
        with selling(('name = "Tokens"', 'name = "AI tokens"'), ('name = "Pro"', 'name = "Team"')) as app:
            assert pushed(app) == {"update": 5, "same": OBJECTS - 5}
            assert pushed(app) == {"same": OBJECTS}

        assert {key: price.id for key, price in by_key(stripe_client).items()} == before
        assert stripe_client.v1.products.retrieve("metering_plan_pro").name == "Team plan"
        meters = {meter.event_name: meter for meter in stripe_client.v1.billing.meters.list()}
        assert meters["tokens"].display_name == "AI tokens"

    def test_a_plan_with_a_price_of_its_own_has_that_one(
        self, selling: Selling, stripe_client: stripe.StripeClient, session: Session
    ) -> None:
        own = '\n[plans.pro.prices.api_call]\nunit = "API call"\namount = "0.0005"\n'
        with selling() as app:
            pushed(app)
        with selling(("\n[plans.enterprise]", f"{own}\n[plans.enterprise]")) as app:
            assert pushed(app) == {"create": 1, "same": OBJECTS}

        found = by_key(stripe_client)
        assert found["metering:plan:pro:meter:api_call"].unit_amount_decimal == Decimal("0.05")
        session.rollback()
        assert found["metering:plan:pro:meter:api_call"].id in prices_of(session, STANDIN, "pro")
        assert found["metering:meter:api_call"].id not in prices_of(session, STANDIN, "pro")
        assert found["metering:meter:api_call"].id in prices_of(session, STANDIN, "free")

        with selling() as app:
            assert pushed(app) == {"deactivate": 1, "same": OBJECTS}
        session.rollback()
        assert found["metering:meter:api_call"].id in prices_of(session, STANDIN, "pro")
        check_whole(stripe_client)

    def test_a_plan_that_is_not_sold_any_more_is_retired_and_may_come_back(
        self, selling: Selling, stripe_client: stripe.StripeClient, session: Session
    ) -> None:
        gone = '[plans.enterprise]\nname = "Enterprise"\nbase_fee = "499"\n'
        with selling() as app:
            pushed(app)
        (base,) = [price.id for key, price in by_key(stripe_client).items() if key == "metering:plan:enterprise"]
        with selling((gone, "")) as app:
            assert pushed(app) == {"deactivate": 2, "same": OBJECTS - 2}
            assert pushed(app) == {"same": OBJECTS - 2}

        assert stripe_client.v1.products.retrieve("metering_plan_enterprise").active is False
        assert stripe_client.v1.prices.retrieve(base).active is False
        assert (prices_of(session, STANDIN, "enterprise"), plan_of(session, STANDIN, [base])) == ([], "enterprise")
        with selling() as app:
            assert pushed(app) == {"create": 1, "update": 1, "same": OBJECTS - 2}
        check_whole(stripe_client)

    def test_what_somebody_did_at_stripe_is_put_right(self, app: Flask, stripe_client: stripe.StripeClient) -> None:
        pushed(app)
        found = by_key(stripe_client)
        stripe_client.v1.prices.update(found["metering:meter:seats"].id, {"active": False})
        stripe_client.v1.products.update("metering_plan_free", {"active": False, "name": "Gratis"})
        stripe_client.v1.prices.update(found["metering:plan:pro"].id, {"lookup_key": "mine"})

        assert pushed(app) == {"create": 1, "update": 2, "same": OBJECTS - 3}
        check_whole(stripe_client)
        assert by_key(stripe_client)["metering:plan:pro"].id == found["metering:plan:pro"].id


class TestLoss:
    def test_a_lost_database_finds_its_objects_again(
        self, app: Flask, stripe_client: stripe.StripeClient, session: Session
    ) -> None:
        pushed(app)
        ids = prices_of(session, STANDIN, "pro")
        for table in ("stripe_prices", "stripe_products", "stripe_meters"):
            session.execute(text(f"DELETE FROM {table}"))
        session.commit()

        assert pushed(app) == {"same": OBJECTS}
        session.rollback()
        assert prices_of(session, STANDIN, "pro") == ids
        assert len(session.scalars(select(StripeMeter)).all()) == len(METERS)
        check_whole(stripe_client)

    def test_a_price_that_is_gone_at_stripe_is_made_again(
        self, app: Flask, stripe_client: stripe.StripeClient, session: Session
    ) -> None:
        pushed(app)
        there = by_key(stripe_client)["metering:plan:pro"].id
        stripe_client.v1.prices.update(there, {"active": False, "lookup_key": "other"})
        session.execute(text("UPDATE stripe_prices SET stripe_id = 'price_gone' WHERE stripe_id = :id"), {"id": there})
        session.commit()

        assert pushed(app) == {"create": 1, "same": OBJECTS - 1}
        check_whole(stripe_client)
        assert plan_of(session, STANDIN, ["price_gone"]) == "pro"

    @pytest.mark.parametrize("nth", [1, 6, 8, 15, 20, 24])
    def test_a_push_that_was_killed_is_completed_by_the_next(
        self,
        app: Flask,
        standin: StandinProcess,
        servers: Addresses,
        tmp_path: Path,
        stripe_client: stripe.StripeClient,
        nth: int,
    ) -> None:
        assert push_process(settings_of(standin, servers, tmp_path), f"stripe.pushed:{nth}") < 0

        assert pushed(app) == Counter(same=nth, create=OBJECTS - nth)
        check_whole(stripe_client)
        assert len(prices(stripe_client)) == len(METERS) + len(PLANS)

    @pytest.mark.parametrize("nth", [1, 2])
    def test_a_change_of_price_that_was_killed_is_completed_by_the_next(
        self,
        selling: Selling,
        standin: StandinProcess,
        servers: Addresses,
        tmp_path: Path,
        stripe_client: stripe.StripeClient,
        nth: int,
    ) -> None:
        with selling() as app:
            pushed(app)
        dearer = ('base_fee = "49"', 'base_fee = "59"')
        assert push_process(settings_of(standin, servers, tmp_path, dearer), f"stripe.pushed:{nth}") < 0

        with selling(dearer) as app:
            assert pushed(app) == {"same": OBJECTS, **({"deactivate": 1} if nth == 1 else {})}
            assert pushed(app) == {"same": OBJECTS}
        check_whole(stripe_client)
        assert len(prices(stripe_client)) == len(METERS) + len(PLANS) + 1

    @pytest.mark.parametrize("path", ["/v1/products", "/v1/prices", "/v1/billing/meters"])
    @pytest.mark.parametrize("when", ["before", "after"])
    def test_an_error_that_stripe_repeats_for_a_day_stops_one_push_at_most(
        self, app: Flask, standin: StandinProcess, stripe_client: stripe.StripeClient, path: str, when: str
    ) -> None:
        standin.set("faults", kind="error_500", path=path, method="POST", when=when, times=1, should_retry=False)
        made_after_all = (path, when) == ("/v1/billing/meters", "after")
        run(app, "--yes", status=0 if made_after_all else 1)

        pushed(app)
        check_whole(stripe_client)
        assert len(prices(stripe_client)) == len(METERS) + len(PLANS)

    def test_a_failure_at_any_call_leaves_what_the_next_push_goes_on_from(
        self, app: Flask, standin: StandinProcess, stripe_client: stripe.StripeClient
    ) -> None:
        """Every call that reads, and every one that makes something, before and after it did."""
        reads = 0
        while True:
            standin.set("faults", kind="slow", method="GET", times=reads) if reads else None
            standin.set("faults", kind="error_500", method="GET", times=1, should_retry=False)
            standin.set("faults", kind="outage", method="POST", should_retry=False)  # reads alone are looked at here
            standing = run(app, "--dry-run", status=None).exit_code
            standin.lift_faults()
            if standing == 0:
                break
            reads += 1
        assert reads >= 3
        failed = 0
        for when in ("before", "after"):
            for _ in range(2 * OBJECTS):
                standin.set("faults", kind="error_500", method="POST", when=when, times=100, should_retry=False)
                done = run(app, "--yes", status=None).exit_code == 0
                standin.lift_faults()
                failed += not done
                if done or when == "before":
                    break
        assert failed == 1 + OBJECTS - len(METERS)  # a meter whose making seemed to fail is found at once

        assert pushed(app) == {"same": OBJECTS}
        check_whole(stripe_client)
        assert len(prices(stripe_client)) == len(METERS) + len(PLANS)

    def test_what_a_push_did_before_it_failed_is_in_the_audit_log(
        self, app: Flask, standin: StandinProcess, session: Session
    ) -> None:
        standin.set("faults", kind="error_500", method="POST", path="/v1/prices", times=1, should_retry=False)
        run(app, "--yes", status=1)

        (entry,) = session.scalars(select(AuditEntry).where(AuditEntry.action.startswith("stripe.push"))).all()
        assert entry.action == "stripe.push_failed"
        assert len(entry.detail["steps"]) == 2 * len(METERS) + len(PLANS)
        assert entry.detail["steps"][0].startswith("create meter api_call mtr_")
        assert "Stripe: An unknown error occurred" in entry.detail["error"]

    def test_every_call_takes_its_turn_under_the_shared_rate(self, app: Flask, world: World) -> None:
        runtime = app.extensions["metering"].runtime
        turns: list[str] = []
        api = connect(
            KEY, standin=True, api_base=runtime.settings.stripe_api_base, wait_for_turn=lambda: turns.append("x")
        )
        api.meters_by_name()
        assert len(turns) == 1

        world.redis.delete("stripe:{standin}:calls")
        pushed(app)
        assert world.redis.exists("stripe:{standin}:calls")

    def test_an_answer_that_was_lost_is_looked_up(
        self, app: Flask, standin: StandinProcess, stripe_client: stripe.StripeClient
    ) -> None:
        for path in ("/v1/products", "/v1/prices"):
            standin.set("faults", kind="drop_answer", path=path, method="POST", times=1)

        assert pushed(app) == {"create": OBJECTS}
        check_whole(stripe_client)
        assert len(prices(stripe_client)) == len(METERS) + len(PLANS)

    def test_two_at_once_make_nothing_twice(self, selling: Selling, stripe_client: stripe.StripeClient) -> None:
        with selling() as app:
            runtime = app.extensions["metering"].runtime
            agreed = changes(look(runtime))
            done: list[int] = []
            both = [
                threading.Thread(target=lambda: done.append(len(changes(push(runtime, agreed, actor="test")))))
                for _ in range(2)
            ]
            for thread in both:
                thread.start()
            for thread in both:
                thread.join()
        assert sorted(done) == [0, OBJECTS]
        check_whole(stripe_client)
        assert len(prices(stripe_client)) == len(METERS) + len(PLANS)


class TestMeters:
    def test_a_meter_that_the_environment_names_goes_first(
        self, app: Flask, stripe_client: stripe.StripeClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own = stripe_client.v1.billing.meters.create(
            {"display_name": "Own", "event_name": "own", "default_aggregation": {"formula": "sum"}}
        )
        monkeypatch.setenv("STRIPE_API_CALLS_METER_ID", own.id)

        assert pushed(app) == {"create": OBJECTS - 1, "same": 1}

        price = by_key(stripe_client)["metering:meter:api_call"]
        assert price.recurring is not None
        assert price.recurring.meter == own.id
        assert stripe_client.v1.billing.meters.retrieve(own.id).display_name == "Own"

    def test_pushed_meters_are_linked_and_count_in_their_units(self, app: Flask, session: Session) -> None:
        pushed(app)

        ids = meter_ids(session)
        units = {link.meter_id: link.unit for link in session.scalars(select(StripeMeter))}
        assert units[ids["storage_bytes"]] == Decimal("2821793.513472")
        assert {unit for id, unit in units.items() if id != ids["storage_bytes"]} == {1}

    def test_a_link_from_before_that_was_never_used_counts_as_the_price_needs(
        self, app: Flask, standin: StandinProcess, session: Session
    ) -> None:
        api = connect(KEY, standin=True, api_base=standin.url)
        link_meters(session, STANDIN, find_meters(api, load_catalog(), {}, create=True))
        assert {link.unit for link in session.scalars(select(StripeMeter))} == {1}
        session.commit()

        pushed(app)

        units = [link.unit for link in session.scalars(select(StripeMeter).execution_options(populate_existing=True))]
        assert sorted(units) == [1, 1, 1, 1, 1, Decimal("2821793.513472")]

    def test_what_a_meter_counts_as_one_stays_once_it_has_a_price(
        self, selling: Selling, stripe_client: stripe.StripeClient, session: Session
    ) -> None:
        """A subscription may hold the old price, which bills by the old unit."""
        in_millions = (
            'unit = "GB-month"                # 1024^3 bytes x 730 hours x 3600 seconds\nsize = 2_821_793_513_472_000',
            'unit = "part"\nsize = 1_000_000',
        )
        with selling() as app:
            pushed(app)
        with selling(in_millions) as app:  # scaled units would do
            said = run(app, "--dry-run", status=1).output

        assert "prices.storage_bytes:" in said
        assert "storage_bytes: Stripe counts it in units of 2821793.513472 already" in said
        units = {link.meter_id: link.unit for link in session.scalars(select(StripeMeter))}
        assert units[meter_ids(session)["storage_bytes"]] == Decimal("2821793.513472")
        assert len(prices(stripe_client)) == len(METERS) + len(PLANS)

    def test_a_price_that_stripe_cannot_bill_is_named_by_its_path(
        self, selling: Selling, stripe_client: stripe.StripeClient
    ) -> None:
        package = ('[prices.messages]\nmodel = "per_unit"', '[prices.messages]\nmodel = "package"\nsize = 100')
        with selling(package) as app:
            said = run(app, "--yes", status=1).output
        assert "prices.messages: packages cannot have included units at Stripe" in said
        assert not prices(stripe_client)


class TestPlans:
    def test_a_plan_consists_of_its_base_fee_and_its_metered_prices(
        self, app: Flask, stripe_client: stripe.StripeClient, session: Session
    ) -> None:
        pushed(app)

        found = {price.id: price.lookup_key for price in prices(stripe_client)}
        ids = prices_of(session, STANDIN, "pro")
        assert [found[id] for id in ids] == [
            "metering:plan:pro",
            *(f"metering:meter:{meter}" for meter in sorted(METERS)),
        ]
        assert plan_of(session, STANDIN, ids) == "pro"
        assert plan_of(session, STANDIN, ids[1:]) is None  # what all plans have
        assert plan_of(session, STANDIN, [ids[0], *prices_of(session, STANDIN, "free")]) is None
        assert plan_of(session, STANDIN, []) is None
        assert prices_of(session, "live:acct_1", "pro") == []


def push_process(settings: dict[str, Any], failpoint: str) -> int:
    """A push in a process of its own; its exit code."""
    process = FORKS.Process(target=push_once, args=(settings, failpoint))
    process.start()
    process.join(60)
    assert process.exitcode is not None, "the push does not end"
    return process.exitcode


def push_once(settings: dict[str, Any], failpoint: str) -> None:
    failpoints.arm(failpoint)
    runtime = build_runtime(load_settings(env="development", partitions=PARTITIONS, **settings))
    push(runtime, changes(look(runtime)), actor="test")
