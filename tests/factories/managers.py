"""Who manages by the HTTP API: operators, and administrators of a customer."""

from flask import Flask

from metering.accounts.keys import create_key
from metering.models import Customer
from tests.factories.callers import ApiConsumer
from tests.factories.world import World


def operator(app: Flask, world: World, *scopes: str) -> ApiConsumer:
    """A key of the operators."""
    granted = scopes or ("admin", "usage:read")
    _, made = create_key(world.session, None, name="operators", scopes=granted, now=world.now, by_operator=True)
    world.session.commit()
    world.send()
    return ApiConsumer(app, made.secret, "")


def admin(app: Flask, world: World, customer: Customer, *scopes: str) -> ApiConsumer:
    """A key with which a customer manages itself."""
    return ApiConsumer(app, world.key(customer, *(scopes or ("admin", "usage:read", "meter"))).secret, customer.key)
