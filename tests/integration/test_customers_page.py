"""Users of many customers: which one they see, and how they find another. All of it without scripts."""

import re

import pytest
from flask import Flask

from metering.models import Membership, User
from tests.factories.people import Visitor, make_user
from tests.factories.world import World

SHOWN = re.compile(r'class="menu-item" href="/c/([\w-]+)/"')
FRAME = re.compile(r'class="brand" href="/c/([\w-]+)/"')


@pytest.fixture
def agent(world: World) -> User:
    """A member of ten customers."""
    user = make_user(world, "agent@agency.example")
    for number in range(10):
        customer = world.customer(f"client-{number}", "pro")
        world.session.add(Membership(customer_id=customer.id, user_id=user.id, role="admin"))
    world.customer("rival")
    world.session.commit()
    return user


@pytest.fixture
def visitor(app: Flask, agent: User) -> Visitor:
    visitor = Visitor.of(app)
    visitor.log_in(agent.email)
    return visitor


def test_the_frame_lists_some_and_leads_to_all(visitor: Visitor) -> None:
    page = visitor.open("/c/client-3/").text
    assert len(SHOWN.findall(page)) == 7
    assert 'action="/customers"' in page
    assert "All customers (10)" in page
    assert len(SHOWN.findall(visitor.open("/customers").text)) == 7 + 10


def test_a_search_finds_ones_own_customers_alone(visitor: Visitor) -> None:
    def found(text: str) -> list[str]:
        return SHOWN.findall(visitor.open(f"/customers?q={text}").text.partition("<main")[2])

    assert found("ENT-7") == ["client-7"]
    assert found("rival") == []
    assert "None is called “rival”" in visitor.open("/customers?q=rival").text
    assert len(found("")) == 10


def test_an_operator_finds_every_customer(app: Flask, world: World, agent: User) -> None:
    make_user(world, "operator@metering.example", world.find("client-1"), operator=True)
    operator = Visitor.of(app)
    operator.log_in("operator@metering.example")
    assert 'action="/customers"' in operator.open("/c/client-1/").text
    assert '"/c/rival/"' in operator.open("/customers?q=riv").text


def test_pages_of_ones_own_keep_the_customer_one_was_on(world: World, visitor: Visitor, agent: User) -> None:
    def frame() -> str:
        return FRAME.findall(visitor.open("/account").text)[0]

    assert frame() == "client-0"
    visitor.open("/c/client-4/keys")
    visitor.partial("/c/client-5/live/usage")
    visitor.open("/c/rival/")
    assert frame() == "client-4"
    assert visitor.open("/").location == "/c/client-4/"

    mine = world.session.query(Membership).filter_by(user_id=agent.id, customer_id=world.find("client-4").id)
    mine.delete()
    world.session.commit()
    assert frame() == "client-0"
