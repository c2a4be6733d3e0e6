"""A Stripe meter stands for one of ours for good, and from its link on all of that meter's usage is owed."""

from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import Engine

from metering.clock import to_micros
from metering.errors import ConfigurationError
from metering.models import StripeMeter
from metering.store.meters import meter_ids
from metering.store.verify import verify
from metering.stripe_sync.gateway import STANDIN, MeterAtStripe
from metering.stripe_sync.ledger import owe
from metering.stripe_sync.meters import find_meters, ids_from, link_meters
from tests.factories.ledger import SETTLE_SECONDS, Books
from tests.factories.standin import StandinProcess
from tests.factories.subscriptions import subscribed
from tests.factories.world import World


@pytest.fixture
def books(world: World, standin: StandinProcess, engine: Engine) -> Books:
    return Books(world, standin, engine).open()


def test_usage_from_before_a_meter_was_linked_is_owed_when_it_is(
    world: World, standin: StandinProcess, engine: Engine
) -> None:
    books = Books(world, standin, engine)
    books.customer()
    books.use(5)
    assert books.report_hours().accepted == 0

    books.open()
    books.report_hours()

    assert books.counted() == books.used() != {}


def test_linking_again_changes_nothing(books: Books) -> None:
    meters = find_meters(books.gateway(), books.world.catalog, {}, create=True)

    assert link_meters(books.world.session, STANDIN, meters) == 0


def test_a_meter_that_was_reported_to_never_moves(books: Books) -> None:
    books.customer()
    books.use(5)
    books.report_hours()
    other = MeterAtStripe("mtr_other", "other", "sum", True, "stripe_customer_id", "value")

    with pytest.raises(ConfigurationError, match="already reported"):
        link_meters(books.world.session, STANDIN, {"api_call": other})
    assert link_meters(books.world.session, STANDIN, {"tokens": other}) == 1  # never used


def test_each_account_has_a_ledger_of_its_own(books: Books) -> None:
    acme = books.customer()
    books.use(5)
    books.report_hours()
    session = books.world.session
    subscribed(session, acme, "live:acct_1")
    links = session.query(StripeMeter).all()
    meter = {link.meter_id: link for link in links}[meter_ids(session)["api_call"]]
    other = MeterAtStripe("mtr_live", meter.event_name, "sum", True, "stripe_customer_id", "value")

    link_meters(session, "live:acct_1", {"api_call": other})

    made = owe(session, "live:acct_1", now=books.world.now, settle_seconds=SETTLE_SECONDS)
    session.commit()
    assert made == 1
    assert books.send().accepted == 0  # the other account's rows are none of its business


def test_ids_come_from_the_environment_by_the_names_of_our_meters(books: Books) -> None:
    catalog = books.world.catalog
    assert ids_from({"STRIPE_API_CALLS_METER_ID": "mtr_1", "STRIPE_TOKENS_METER_ID": "mtr_2"}, catalog) == {
        "api_call": "mtr_1",
        "tokens": "mtr_2",
    }
    assert ids_from({"STRIPE_API_CALL_METER_ID": "mtr_1", "STRIPE_SEATS_METER_ID": ""}, catalog) == {
        "api_call": "mtr_1"
    }
    with pytest.raises(ConfigurationError, match="different meters"):
        ids_from({"STRIPE_API_CALLS_METER_ID": "mtr_1", "STRIPE_API_CALL_METER_ID": "mtr_2"}, catalog)
    with pytest.raises(ConfigurationError, match="would count all of"):
        ids_from({"STRIPE_API_CALLS_METER_ID": "mtr_1", "STRIPE_TOKENS_METER_ID": "mtr_1"}, catalog)


def test_a_named_meter_must_add_up_and_keeps_its_own_payload_keys(books: Books) -> None:
    client = books.standin.client()
    own = client.v1.billing.meters.create(
        {
            "display_name": "Own",
            "event_name": "own_calls",
            "default_aggregation": {"formula": "sum"},
            "customer_mapping": {"type": "by_id", "event_payload_key": "who"},
            "value_settings": {"event_payload_key": "how_many"},
        }
    )
    last = client.v1.billing.meters.create(
        {"display_name": "L", "event_name": "last", "default_aggregation": {"formula": "last"}}
    )
    gateway, catalog = books.gateway(), books.world.catalog

    found = find_meters(gateway, catalog, {"STRIPE_API_CALLS_METER_ID": own.id}, create=False)
    assert list(found) == ["api_call"]
    link_meters(books.world.session, STANDIN, found)
    books.world.session.commit()
    books.customer()
    books.use(4)
    books.report_hours()

    assert [(key[0], total) for key, total in books.counted().items()] == [("own_calls", 4)]
    with pytest.raises(ConfigurationError, match="must add up"):
        find_meters(gateway, catalog, {"STRIPE_API_CALLS_METER_ID": last.id}, create=False)
    client.v1.billing.meters.deactivate(own.id)
    with pytest.raises(ConfigurationError, match="not active"):
        find_meters(gateway, catalog, {"STRIPE_API_CALLS_METER_ID": own.id}, create=False)


def test_a_meter_may_count_many_units_as_one_and_each_hour_is_rounded_down(books: Books) -> None:
    session = books.world.session
    meters = find_meters(books.gateway(), books.world.catalog, {}, create=True)
    assert link_meters(session, STANDIN, meters, {"api_call": Decimal("2.5")}) == 1
    session.commit()
    books.customer()
    for used in (5, 7, 2, 10):
        books.use(used)
        books.report_hours()
    books.use(1, admitted=to_micros(books.world.now - timedelta(hours=1, minutes=5)))  # late, into the hour of ten
    books.report_hours()

    counted = {key[2].hour: int(total) for key, total in books.counted().items()}
    assert sorted(counted.values()) == [2, 2, 4]  # 5 / 2.5, 7 / 2.5 rounded down, 11 / 2.5; 2 / 2.5 is nothing
    books.check()
    assert [check.name for check in verify(books.engine, books.world.redis) if check.differences] == []


def test_what_a_meter_counts_as_one_changes_until_something_was_reported(books: Books) -> None:
    session = books.world.session
    books.customer()
    meters = find_meters(books.gateway(), books.world.catalog, {}, create=True)
    assert link_meters(session, STANDIN, meters, {"api_call": Decimal(10)}) == 1
    session.commit()
    books.use(9)
    assert books.report_hours().accepted == 0  # not one whole unit

    assert link_meters(session, STANDIN, meters, {"api_call": Decimal(3)}) == 1
    session.commit()
    assert books.report_hours().accepted == 1  # what was too little before is owed now

    assert link_meters(session, STANDIN, meters, {"api_call": Decimal(1)}) == 0
    assert {link.unit for link in session.query(StripeMeter)} == {Decimal(1), Decimal(3)}
