"""A customer who buys at the local Stripe; a file that wants it has `stripe_app` as its `app`."""

from collections.abc import Iterator

import pytest
from flask import Flask
from sqlalchemy import Engine

from tests.factories.shop import Served, Shop
from tests.factories.standin import StandinProcess
from tests.factories.world import World


@pytest.fixture
def shop(app: Flask, world: World, standin: StandinProcess, engine: Engine) -> Iterator[Shop]:
    served = Served(app)
    yield Shop(app, world, standin, engine, served.url).open()
    served.close()
