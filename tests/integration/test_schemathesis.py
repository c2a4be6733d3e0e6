"""Thousands of requests that nobody wrote, made from the API's own description: whatever comes, no answer is a 5xx, and
none is one that the description does not allow.

Seeded, so that a failure comes again. Each operation must have succeeded often enough for its answers to have been
looked at: where only the database knows what to ask for, its example is mixed in.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy, integers
from schemathesis import Case, GenerationMode
from schemathesis.checks import CHECKS
from schemathesis.schemas import APIOperation

from metering.api.openapi import Route, routes
from metering.api.operation import Content
from tests.factories.seeds import Seeds, path_values
from tests.factories.world import World

CASES = 3_000
PLANNED = 3_100  # some are not made: an operation that takes nothing can't be asked wrongly
LEAST_SUCCESSES = 10
FEWEST_A_KIND = 11
SEED = 20261110
CHECKED = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "allow_header_conformance",
)
READ_TO_BEGIN_WITH = {"GET /api/openapi.json"}
CAPS = {"max_tokens": 50, "seconds": 0.002}
"""What a body may ask for at most here: the work itself is not what is looked at."""


NAMES = {"key": "-", "slug": "_"}
"""What can be made once under a name is made under another one each time."""


@dataclass(frozen=True)
class Kind:
    """What somebody sends, and its share of the cases. `wrong`: it is what the description does not allow."""

    caller: str
    strategy: "SearchStrategy[Case]"
    share: float
    wrong: bool = False


@dataclass
class Campaign:
    """The cases of a run, and how they were answered, by operation and status."""

    seeds: Seeds
    schema: Any
    answered: dict[str, Counter[int]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    changed: bool = False
    """The last request was not refused."""

    @property
    def cases(self) -> int:
        return sum(sum(statuses.values()) for statuses in self.answered.values())

    def run(self, route: Route, operation: APIOperation, count: int) -> None:
        self.seeds.restore(route.method, route.template.schemas)
        self.fixed = dict(self.seeds.ids)  # those that the kinds are about to be made with
        for kind in self._kinds(route, operation):
            self._send(route, operation.label, kind, max(FEWEST_A_KIND, round(count * kind.share)))

    def _kinds(self, route: Route, operation: APIOperation) -> Iterator[Kind]:
        """What is allowed, the same on what is there, the example, what is not allowed, and what another may not."""
        example = route.declared.example
        there = path_values(route, self.seeds.ids)
        fixed: dict[str, Any] = {"path_parameters": there} if there else {}
        whole = fixed | {"query": dict(example.query)} if example.query else fixed
        if example.body is not None and not isinstance(example.body, str | bytes):
            whole = whole | {"body": example.body}
            if isinstance(route.declared.body, Content):
                whole = whole | {"media_type": next(iter(route.declared.body.schemas))}
        who = "operator" if route.declared.operators_only else "owner"
        other = "owner" if route.declared.operators_only else "operator"
        yield Kind(who, operation.as_strategy(GenerationMode.POSITIVE), 0.25)
        yield Kind(who, operation.as_strategy(GenerationMode.POSITIVE, **fixed), 0.25)
        yield Kind(who, operation.as_strategy(GenerationMode.POSITIVE, **whole), 0.15)
        yield Kind(who, operation.as_strategy(GenerationMode.NEGATIVE), 0.2, wrong=True)
        yield Kind(other, operation.as_strategy(GenerationMode.POSITIVE, **fixed), 0.15)

    def _send(self, route: Route, label: str, kind: Kind, count: int) -> None:
        checks = [check for check in CHECKS.get_all() if check.__name__ in CHECKED]
        headers = {"Authorization": f"Bearer {self.seeds.keys[kind.caller]}"}
        statuses = self.answered.setdefault(label, Counter())

        @seed(SEED)
        @settings(
            max_examples=count,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            verbosity=Verbosity.quiet,
        )
        @given(case=kind.strategy, _number=integers(0, 2**20))  # the latter so that the same may come more than once
        def send(case: Case, _number: int) -> None:
            if not kind.wrong:
                _cap(case.body)
            self._put_back(route, case)
            response = case.call(headers=headers)
            statuses[response.status_code] += 1
            self.changed = response.status_code < 400
            if kind.wrong and response.status_code == 405 and route.template.schemas:
                return  # a wrong value in a path can lead to another address, where another method is at home
            case.validate_response(response, checks=checks)

        try:
            send()
        except Unsatisfiable:
            if not kind.wrong:
                raise
        except (Exception, BaseExceptionGroup) as found:
            faults = getattr(found, "exceptions", [found])
            self.faults += [f"{label} ({kind.caller}): {type(fault).__name__}: {fault}" for fault in faults]

    def _put_back(self, route: Route, case: Case) -> None:
        """What earlier cases changed or used up is there again, under ids that may be new."""
        if route.method == "GET":
            return
        if self.changed:
            self.seeds.restore(route.method, route.template.schemas)
        for name, value in (case.path_parameters or {}).items():
            if name in self.fixed and value == self.fixed[name]:
                case.path_parameters[name] = self.seeds.ids[name]
        if isinstance(case.body, dict) and case.body == route.declared.example.body:
            for name in NAMES.keys() & case.body.keys():
                case.body = {**case.body, name: f"{case.body[name]}{NAMES[name]}{self.cases}"}


def _cap(body: Any) -> None:
    if isinstance(body, dict):
        for name, most in CAPS.items():
            value = body.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool) and value > most:
                body[name] = most


@pytest.fixture
def campaign(app: Flask, world: World) -> Campaign:
    return Campaign(Seeds.sow(app, world), schemathesis.openapi.from_wsgi("/api/openapi.json", app))


def by_label(app: Flask) -> Mapping[str, Route]:
    return {f"{route.method} {route.template.path}": route for route in routes(app)}


def test_no_answer_is_one_that_the_description_does_not_allow(campaign: Campaign, app: Flask) -> None:
    declared = by_label(app)
    operations = [found.ok() for found in campaign.schema.get_all_operations()]
    assert {operation.label for operation in operations} == declared.keys() - READ_TO_BEGIN_WITH

    for operation in operations:
        campaign.run(declared[operation.label], operation, PLANNED // len(operations) + 1)

    report = {label: dict(sorted(statuses.items())) for label, statuses in campaign.answered.items()}
    assert campaign.faults == [], "\n\n".join(campaign.faults)
    assert campaign.cases >= CASES
    good = {label: sum(n for status, n in one.items() if status < 300) for label, one in report.items()}
    rare = {label: report[label] for label, count in good.items() if count < LEAST_SUCCESSES}
    assert rare == {}, rare
