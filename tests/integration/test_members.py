"""Seats follow the members, and their limit holds even while nobody feeds the inbox."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select

from metering.accounts.users import add_member, create_user, remove_member
from metering.errors import Conflict, LimitExceeded
from metering.models import Customer, Membership, User
from metering.store import inbox
from tests.factories.world import World


def join(world: World, customer: Customer, number: int, role: str = "member") -> User:
    user = create_user(world.session, email=f"u{number}@example.com", password="a long password")
    add_member(world.session, world.intake, world.catalog, customer, user, role, now=world.now)
    world.session.commit()
    return user


def test_a_plan_with_one_seat_takes_one_member_however_late_the_keeper_is(world: World) -> None:
    customer = world.customer()
    join(world, customer, 1, "owner")
    world.now += timedelta(minutes=10)  # the lease of the first seat's hold is long over

    with pytest.raises(LimitExceeded):
        join(world, customer, 2)
    world.session.rollback()

    assert world.session.scalar(select(func.count(Membership.id))) == 1


def test_a_member_who_leaves_gives_the_seat_back(world: World) -> None:
    customer = world.customer(plan="pro")
    join(world, customer, 1, "owner")
    second = join(world, customer, 2)
    remove_member(world.session, world.intake, world.catalog, customer, second.id, now=world.now)
    inbox.feed(world.session, world.intake, now=world.now, identity_window_seconds=3600)
    world.session.commit()
    world.advance(seconds=31)
    world.drain()

    assert world.used("seats") == 1
    assert world.held("seats") == 0


def test_the_last_owner_stays(world: World) -> None:
    customer = world.customer(plan="pro")
    owner = join(world, customer, 1, "owner")
    join(world, customer, 2)

    with pytest.raises(Conflict):
        remove_member(world.session, world.intake, world.catalog, customer, owner.id, now=world.now)


def test_a_seat_that_is_taken_is_not_held_besides(world: World) -> None:
    """As many members as there are seats, one right after the other, and no more."""
    team = world.customer("team", "pro")
    for number in range(10):
        join(world, team, number)
    assert (world.used("seats", "team"), world.held("seats", "team")) == (10, 0)

    with pytest.raises(LimitExceeded):
        join(world, team, 11)


def test_a_membership_that_is_rolled_back_takes_no_seat(world: World) -> None:
    team = world.customer("team", "pro")
    user = create_user(world.session, email="ada@example.com", password="a password for tests")
    world.session.commit()
    add_member(world.session, world.intake, world.catalog, team, user, "owner", now=world.now)
    world.session.rollback()
    world.session.commit()

    assert (world.used("seats", "team"), world.held("seats", "team")) == (0, 1)
