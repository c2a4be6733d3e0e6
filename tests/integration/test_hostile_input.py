"""Input that nobody sends by accident is refused with a clear answer, and leaves nothing behind."""

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from metering.accounts.keys import InvalidKey, create_key
from metering.catalog import Catalog
from metering.errors import BadQuantity, InvalidUsage
from metering.ids import key_partition
from metering.models import ApiKey
from metering.service import Metering
from tests.factories.world import World


def test_a_login_with_a_nul_in_it_is_a_wrong_login(world: World, client: FlaskClient) -> None:
    client.application.config["WTF_CSRF_ENABLED"] = False

    answer = client.post("/login", data={"email": "a\x00@b.example", "password": "x" * 12})

    assert answer.status_code in (401, 422)


def test_a_key_has_a_name_that_can_be_shown(world: World) -> None:
    customer = world.customer()

    with pytest.raises(InvalidKey):
        create_key(world.session, customer, name="a\x00b", scopes=["meter"], now=world.now)

    assert world.session.scalars(select(ApiKey)).all() == []


@pytest.mark.parametrize("secret", ["mk_-1_", "mk_+1_", "mk_ 1_", "mk_0G_", "mk_1_", "mk_001_", "sk_01_"])
def test_what_names_no_partition_is_no_key(secret: str) -> None:
    assert key_partition(secret + "x" * 43) is None


@pytest.mark.parametrize("name", ["id", "source"])
@pytest.mark.parametrize("value", ["\ud800", "a\x00", "", "x" * 257])
def test_an_identity_that_cannot_be_stored_is_refused(world: World, metering: Metering, name: str, value: str) -> None:
    world.customer()
    identity = {"id": "1", "source": "test"} | {name: value}

    with pytest.raises(InvalidUsage):
        metering.record("acme", "api_call", 1, **identity)  # type: ignore[arg-type]

    assert world.used() == 0


@pytest.mark.parametrize("properties", [{"path": "\ud800"}, {"path": "a\x00"}, {"path": object()}])
def test_properties_that_cannot_be_stored_are_refused(
    world: World, metering: Metering, properties: dict[str, object]
) -> None:
    world.customer()

    with pytest.raises(InvalidUsage):
        metering.record("acme", "api_call", 1, properties=properties)

    assert world.used() == 0


@pytest.mark.parametrize(
    "quantity",
    [
        *("1.00000000000000000000000000000001", "0.99999999999999999999999999999999", "1e-999999999", "1e999999999"),
        *("１", "1_0", " 1", "1 ", "0x1", "NaN", "Infinity", "-1", "", True, None, [1], 2**53, "9007199254740992"),
    ],
)
def test_a_quantity_that_is_not_exactly_countable_is_refused(catalog: Catalog, quantity: object) -> None:
    with pytest.raises(BadQuantity):
        catalog.meters["api_call"].to_units(quantity)
