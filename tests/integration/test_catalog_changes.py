"""A changed catalog file reaches the intake: `metering init`, and each keeper that starts, notice it."""

from importlib import resources
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import select

from metering.app import create_app
from metering.catalog import Catalog
from metering.embedded import Addresses
from metering.errors import ConfigurationError, LimitExceeded
from metering.initialise import initialise
from metering.keeper import Keeper
from metering.models import Customer
from metering.settings import load_settings
from metering.store import state
from metering.store.meters import prepare
from metering.store.state import terms_fingerprint
from tests.factories.catalogs import with_limit, with_rate
from tests.factories.world import PARTITIONS, World


def versions(world: World) -> dict[str, int]:
    rows = world.session.execute(select(Customer.key, Customer.state_version)).all()
    world.session.commit()
    return {row.key: row.state_version for row in rows}


def init(world: World, catalog: Catalog) -> None:
    """What `metering init` does once the schema is there."""
    world.catalog = catalog
    prepare(world.session, catalog, PARTITIONS)
    world.session.commit()
    world.send()


def test_changed_limits_and_rates_hold_after_init(world: World) -> None:
    world.customer()
    world.customer("umbrella")

    init(world, with_rate(with_limit(world.catalog, "free", api_call=5), "free", customer="50/second"))

    for customer in ("acme", "umbrella"):
        standing = world.intake.standing(customer, ["api_call"], now=world.now)
        assert (standing.meters[0].limit, [rate.count for rate in standing.rates]) == (5, [50])
    with pytest.raises(LimitExceeded):
        world.reserve({"api_call": 6})


def test_a_limit_that_was_taken_out_is_gone(world: World) -> None:
    world.customer()

    init(world, with_limit(world.catalog, "free", api_call=None))

    assert world.intake.standing("acme", ["api_call"], now=world.now).meters[0].mode == "none"


def test_an_unchanged_catalog_sends_nobody_anew(world: World) -> None:
    world.customer()
    before = versions(world)
    plans = {"free": world.catalog.plans["free"].model_copy(update={"name": "Gratis"})}

    init(world, world.catalog)
    init(world, world.catalog.model_copy(update={"plans": {**world.catalog.plans, **plans}}))

    assert versions(world) == before, "what a plan is called is nothing that the intake knows"


def test_terms_have_one_fingerprint_and_other_terms_another(catalog: Catalog) -> None:
    changed = [
        with_limit(catalog, "free", api_call=999),
        with_limit(catalog, "free", api_call={"value": 1000, "mode": "soft"}),
        with_limit(catalog, "free", api_call=None),
        with_rate(catalog, "free", customer="50/second"),
        with_rate(catalog, "free", customer={"rate": "50/second", "burst": 51}),
        with_rate(catalog, "free", key="50/second"),
    ]

    assert len({terms_fingerprint(one) for one in [catalog, *changed]}) == 7
    assert terms_fingerprint(with_limit(catalog, "free", api_call="1000")) == terms_fingerprint(catalog)


def test_init_itself_sends_to_every_customer(
    world: World, servers: Addresses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are: a sweep sends a few hundred at most."""
    monkeypatch.setattr(state, "SWEEP", 2)
    for number in range(5):
        world.customer(f"c{number}")
    file = tmp_path / "catalog.toml"
    default = resources.files("metering.catalog").joinpath("default.toml").read_text("utf-8")
    file.write_text(default.replace("api_call = 1_000\n", "api_call = 7\n"))
    settings = load_settings(
        env="development",
        home=tmp_path,
        partitions=PARTITIONS,
        catalog=file,
        database_url=servers.database_url,
        redis_url=servers.redis_url,
    )
    runtime = create_app(settings, clock=lambda: world.now).extensions["metering"].runtime

    initialise(runtime, report=lambda _: None)
    runtime.close()

    limits = [world.intake.standing(f"c{number}", ["api_call"], now=world.now).meters[0].limit for number in range(5)]
    assert limits == [7] * 5


def test_a_keeper_with_the_new_catalog_mends_what_an_old_one_sent(app: Flask, world: World) -> None:
    """Between `metering init` and its restart a process still sends what its own catalog says."""
    new = world.catalog
    old = world.catalog = with_limit(world.catalog, "free", api_call=5)
    world.customer()
    assert world.intake.standing("acme", ["api_call"], now=world.now).meters[0].limit == 5
    assert terms_fingerprint(old) != terms_fingerprint(new)

    keeper = Keeper(app.extensions["metering"].runtime)
    assert keeper.check_terms() == 1
    keeper.send_state()

    assert keeper.check_terms() == 0
    assert world.intake.standing("acme", ["api_call"], now=world.now).meters[0].limit == 1000


def test_a_plan_that_customers_have_cannot_be_taken_out(world: World) -> None:
    world.customer()
    plans = {key: plan for key, plan in world.catalog.plans.items() if key != "free"}

    with pytest.raises(ConfigurationError, match=r"plans\.free: is not in the catalog, but customers have it"):
        prepare(world.session, world.catalog.model_copy(update={"plans": plans}), PARTITIONS)


def test_no_meters_name_collides_with_what_else_is_known_of_a_plan(world: World) -> None:
    named = {
        name: world.catalog.meters["api_call"].model_copy(update={"key": name, "event_type": name})
        for name in ("plan", "customer", "key")
    }
    catalog = world.catalog.model_copy(update={"meters": {**world.catalog.meters, **named}})
    init(world, with_limit(catalog, "free", plan=1, customer=2, key=3))
    world.customer()

    standing = world.intake.standing("acme", named, now=world.now)

    assert (standing.plan, [one.limit for one in standing.meters], standing.rates) == ("free", [1, 2, 3], ())
