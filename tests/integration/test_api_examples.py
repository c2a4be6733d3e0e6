"""The example of every operation works as it stands, and answers what it says."""

import pytest
from flask import Flask

from metering.api.openapi import routes
from tests.factories.seeds import Seeds, example_request, unserved_app
from tests.factories.world import World

ROUTES = {f"{route.method} {route.template.path}": route for route in routes(unserved_app())}


@pytest.mark.parametrize("name", ROUTES)
def test_it_works(app: Flask, world: World, name: str) -> None:
    seeds, route = Seeds.sow(app, world), ROUTES[name]
    request = example_request(route, seeds.ids)
    if route.declared.scope:
        caller = "operator" if route.declared.operators_only else "owner"
        request["headers"] = {"Authorization": f"Bearer {seeds.keys[caller]}"} | request["headers"]

    answer = app.test_client().open(**request)

    assert answer.status_code == route.declared.example.status, answer.text
    assert answer.status_code in route.declared.answers, "what it answers is described"
