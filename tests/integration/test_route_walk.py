"""Everybody tries every route of the product: a stranger never sees or touches what is another's.

The routes come from the URL map. What one of the API is for stands in its declaration; what a page is for, in the table
below. A route, or a parameter of an address, that is in neither fails: somebody must say whose it is.

Strangers go first, the owner last: that the owner then succeeds proves that what the strangers asked for was there.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from metering.accounts.users import change_role
from metering.api.bodies import Body
from metering.api.openapi import Route, routes
from metering.api.operation import operation_of
from tests.factories.console import sow_console
from tests.factories.people import PASSWORD
from tests.factories.seeds import CUSTOMER, MARKS, STRANGER, Seeds, example_request, unserved_app
from tests.factories.world import World


@dataclass(frozen=True)
class Page:
    """`who` succeeds on it, with `status`; "own": what belongs to a user. `path`: values for parameters that the seeds
    don't know.
    """

    who: Literal["anybody", "user", "own", "customer", "operator"]
    status: int = 200
    form: Mapping[str, Any] | None = None
    path: Mapping[str, str] = field(default_factory=dict)
    csrf: bool = True


ENDPOINT = "/c/<customer_key>/webhooks/<int(max=9223372036854775807):endpoint_id>"
NO_TOKEN = {"token": "mt_of_nobody"}

PAGES = {
    "GET /static/<path:filename>": Page("anybody", path={"filename": "css/app.css"}),
    "GET /healthz": Page("anybody"),
    "GET /readyz": Page("anybody"),
    "GET /metrics": Page("anybody"),
    "GET /problems/": Page("anybody"),
    "GET /problems/<code>": Page("anybody", path={"code": "not-found"}),
    "GET /login": Page("anybody"),
    "POST /login": Page("anybody", 303, form={"email": "stranger@example.org", "password": PASSWORD}),
    "POST /logout": Page("anybody", 303, form={}),
    "GET /": Page("user", 302),
    "GET /customers": Page("user"),
    "GET /c/<customer_key>/": Page("customer"),
    "GET /c/<customer_key>/live/usage": Page("customer"),
    "GET /c/<customer_key>/live/alerts": Page("customer"),
    "GET /c/<customer_key>/live/estimate": Page("customer"),
    "GET /c/<customer_key>/live/activity": Page("customer"),
    "GET /c/<customer_key>/live/quickstart": Page("customer"),
    "GET /c/<customer_key>/quickstart": Page("customer"),
    "POST /c/<customer_key>/quickstart/key": Page("customer", form={}),
    "GET /c/<customer_key>/usage": Page("customer"),
    "GET /c/<customer_key>/events": Page("customer"),
    "GET /c/<customer_key>/events/<event_id>": Page("customer"),
    "GET /c/<customer_key>/usage.csv": Page("customer"),
    "POST /webhooks/stripe": Page("anybody", 404, form={}, csrf=False),
    "POST /webhooks/stripe/thin": Page("anybody", 404, form={}, csrf=False),
    "GET /c/<customer_key>/bill": Page("customer"),
    "GET /c/<customer_key>/bill/<int(max=9223372036854775807):invoice_id>": Page("customer"),
    "GET /c/<customer_key>/plan": Page("customer"),
    "GET /c/<customer_key>/plan/change": Page("customer", 303),
    "GET /c/<customer_key>/plan/cancel": Page("customer", 303),
    "GET /c/<customer_key>/plan/status": Page("customer", 204),
    "POST /c/<customer_key>/plan/checkout": Page("customer", 303, form={"plan": "pro"}),
    "POST /c/<customer_key>/plan/change": Page("customer", 303, form={"plan": "pro"}),
    "POST /c/<customer_key>/plan/portal": Page("customer", 303, form={}),
    "POST /c/<customer_key>/plan/cancel": Page("customer", 303, form={}),
    "POST /c/<customer_key>/plan/resume": Page("customer", 303, form={}),
    "GET /c/<customer_key>/alerts": Page("customer"),
    "POST /c/<customer_key>/alerts/thresholds": Page(
        "customer", 303, form={"of": "*", "kind": "percent", "value": "50"}
    ),
    "POST /c/<customer_key>/alerts/thresholds/remove": Page(
        "customer", 303, form={"of": "*", "kind": "percent", "value": "80"}
    ),
    "POST /c/<customer_key>/alerts/thresholds/standard": Page("customer", 303, form={}),
    "POST /c/<customer_key>/alerts/<int(max=9223372036854775807):alert_id>/dismiss": Page("customer", 303, form={}),
    "POST /c/<customer_key>/alerts/mails": Page("customer", 303, form={"wanted": "no"}),
    "GET /c/<customer_key>/webhooks": Page("customer"),
    "POST /c/<customer_key>/webhooks": Page(
        "customer", form={"url": "https://example.com/", "events": ["invoice.paid"]}
    ),
    f"GET {ENDPOINT}": Page("customer"),
    f"POST {ENDPOINT}": Page("customer", 303, form={"url": "https://example.com/", "events": ["invoice.paid"]}),
    f"POST {ENDPOINT}/ping": Page("customer", 303, form={}),
    f"POST {ENDPOINT}/rotate": Page("customer", form={}),
    f"POST {ENDPOINT}/state": Page("customer", 303, form={"on": "yes"}),
    f"POST {ENDPOINT}/remove": Page("customer", 303, form={}),
    f"POST {ENDPOINT}/deliveries/<int(max=9223372036854775807):delivery_id>/replay": Page("customer", 303, form={}),
    "GET /c/<customer_key>/keys": Page("customer"),
    "GET /c/<customer_key>/keys/<int(max=9223372036854775807):key_id>/rotate": Page("customer", 303),
    "GET /operator": Page("operator"),
    "GET /operator/live/flow": Page("operator"),
    "GET /operator/queues": Page("operator"),
    "GET /operator/live/queues": Page("operator"),
    "POST /operator/queues/jobs/<job_id>/retry": Page("operator", 303, form={}),
    "POST /operator/queues/jobs/<job_id>/delete": Page("operator", 303, form={}),
    "GET /operator/set-aside": Page("operator"),
    "GET /operator/set-aside/<int(max=9223372036854775807):message_id>": Page("operator"),
    "POST /operator/set-aside/<int(max=9223372036854775807):message_id>/replay": Page("operator", 303, form={}),
    "POST /operator/set-aside/<int(max=9223372036854775807):message_id>/replace": Page("operator", 303, form={}),
    "POST /operator/set-aside/<int(max=9223372036854775807):message_id>/dismiss": Page("operator", 303, form={}),
    "GET /operator/held": Page("operator"),
    "POST /operator/held/<int(max=9223372036854775807):held_id>/drop": Page("operator", 303, form={}),
    "GET /operator/stripe": Page("operator"),
    "GET /operator/stripe/rows/<int(max=9223372036854775807):report_id>": Page("operator"),
    "POST /operator/stripe/rows/<int(max=9223372036854775807):report_id>/retry": Page("operator", 303, form={}),
    "POST /operator/stripe/rows/<int(max=9223372036854775807):report_id>/write-off": Page("operator", 303, form={}),
    "POST /operator/stripe/rows/<int(max=9223372036854775807):report_id>/settle": Page("operator", 303, form={}),
    "POST /operator/stripe/resume": Page("operator", 303, form={}),
    "GET /operator/stripe/events": Page("operator"),
    "POST /operator/stripe/events/<stripe_event>/retry": Page("operator", 303, form={}),
    "GET /operator/stripe/reconciliations": Page("operator"),
    "POST /operator/stripe/reconciliations": Page("operator", 303, form={}),
    "GET /operator/stripe/reconciliations/<int(max=9223372036854775807):comparison_id>": Page("operator"),
    "GET /operator/live/reconciliations/<int(max=9223372036854775807):comparison_id>": Page("operator"),
    "GET /operator/customers": Page("operator"),
    "GET /operator/customers/<customer_key>": Page("operator"),
    "POST /operator/customers/<customer_key>/plan": Page("operator", 303, form={"plan": "free", "when": "now"}),
    "POST /operator/customers/<customer_key>/status": Page(
        "operator", 303, form={"status": "suspended", "note": "why"}
    ),
    "POST /operator/customers/<customer_key>/stripe-id": Page("operator", 303, form={}),
    "POST /operator/customers/<customer_key>/end-double": Page("operator", 303, form={}),
    "GET /operator/invariants": Page("operator"),
    "POST /operator/invariants": Page("operator", 303, form={}),
    "GET /operator/invariants/<int(max=9223372036854775807):run_id>": Page("operator"),
    "GET /operator/live/invariants/<int(max=9223372036854775807):run_id>": Page("operator"),
    "GET /operator/audit": Page("operator"),
    "POST /c/<customer_key>/keys": Page("customer", form={"name": "walked", "scopes": ["meter"]}),
    "POST /c/<customer_key>/keys/<int(max=9223372036854775807):key_id>/revoke": Page("customer", 303, form={}),
    "POST /c/<customer_key>/keys/<int(max=9223372036854775807):key_id>/rotate": Page("customer", form={"overlap": "0"}),
    "GET /c/<customer_key>/team": Page("customer"),
    "POST /c/<customer_key>/team/invitations": Page(
        "customer", 303, form={"email": "walked@example.org", "role": "viewer"}
    ),
    "POST /c/<customer_key>/team/invitations/<int(max=9223372036854775807):invitation_id>/resend": Page(
        "customer", 303, form={}
    ),
    "POST /c/<customer_key>/team/invitations/<int(max=9223372036854775807):invitation_id>/withdraw": Page(
        "customer", 303, form={}
    ),
    "POST /c/<customer_key>/team/<int(max=9223372036854775807):user_id>/role": Page(
        "customer", 303, form={"role": "viewer"}
    ),
    "POST /c/<customer_key>/team/<int(max=9223372036854775807):user_id>/remove": Page("customer", 303, form={}),
    "GET /c/<customer_key>/settings": Page("customer"),
    "POST /c/<customer_key>/settings": Page("customer", 303, form={"name": "Walked", "timezone": "Europe/Berlin"}),
    "GET /signup": Page("anybody"),
    "POST /signup": Page(
        "anybody", 303, form={"name": "W", "organization": "W", "email": "w@example.org", "password": PASSWORD}
    ),
    "GET /mail-sent": Page("anybody"),
    "GET /verify/<token>": Page("anybody", 404, path=NO_TOKEN),
    "POST /verify/<token>": Page("anybody", 404, path=NO_TOKEN, form={}),
    "GET /forgot": Page("anybody"),
    "POST /forgot": Page("anybody", 303, form={"email": "stranger@example.org"}),
    "GET /reset/<token>": Page("anybody", 404, path=NO_TOKEN),
    "POST /reset/<token>": Page("anybody", 404, path=NO_TOKEN, form={}),
    "GET /login/code": Page("anybody", 303),
    "POST /login/code": Page("anybody", 303, form={}),
    "GET /invitations/<token>": Page("anybody", 404, path=NO_TOKEN),
    "POST /invitations/<token>": Page("anybody", 404, path=NO_TOKEN, form={}),
    "GET /account": Page("user"),
    "POST /account/name": Page("user", 303, form={"name": "Walked"}),
    "POST /account/email": Page("user", 303, form={"email": "walked@example.org", "current": PASSWORD}),
    "GET /account/email/<token>": Page("user", 404, path=NO_TOKEN),
    "POST /account/email/<token>": Page("user", 404, path=NO_TOKEN, form={}),
    "POST /account/password": Page("user", 303, form={"current": PASSWORD, "password": "another password of mine"}),
    "POST /account/sessions/<int(max=9223372036854775807):session_id>/end": Page("own", 303, form={}),
    "POST /account/sessions/end": Page("user", 303, form={}),
    "POST /account/two-step/begin": Page("user", 303, form={"password": PASSWORD}),
    "GET /account/two-step": Page("user", 303),
    "POST /account/two-step": Page("user", 303, form={}),
    "POST /account/two-step/codes": Page("user", 303, form={"password": PASSWORD}),
    "POST /account/two-step/off": Page("user", 303, form={"password": PASSWORD}),
}

OWNED = {"name", "customer", "customer_key", "customer_id", "id_or_key", "key_id", "member_id", "user_id", "event_id"}
OWNED |= {"reservation", "token", "alert_id", "operator_key_id", "session_id", "invitation_id", "invoice_id"}
OWNED |= {"job_id", "message_id", "held_id", "report_id", "stripe_event", "comparison_id", "run_id"}
OWNED |= {"endpoint_id", "delivery_id"}
"""Parameters that name what belongs to somebody: to a customer, or to the operators."""

SHARED = {"meter", "id_or_slug", "slug", "meter_slug", "feature", "feature_key", "filename", "code", "plan"}
"""Parameters that name what is the same for all."""

OWN_NAMES = {"PUT /api/v1/sample/files/{name}"}
"""Where a stranger who gives a name that another has, too, makes something of its own."""

REFUSED = (401, 403, 404)
PARAMETER = re.compile(r"<(?:[^<>]*:)?(\w+)>")
BY_ITSELF = r"(?<![0-9a-zA-Z_-]){}(?![0-9a-zA-Z_-])"
"""A number that stands by itself: any five digits may come to stand in an id that is made of chance."""
FORM_OF_A_CUSTOMER = re.compile(r'<form[^>]*method="post"[^>]*action="/c/')

UNSERVED = unserved_app()
OPERATIONS = {f"{route.method} {route.template.path}": route for route in routes(UNSERVED)}
ALL = {
    f"{method} {rule.rule}": rule
    for rule in UNSERVED.url_map.iter_rules()
    for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
}
OTHERS = [name for name, rule in ALL.items() if operation_of(UNSERVED.view_functions[rule.endpoint]) is None]


@pytest.fixture
def seeds(app: Flask, world: World) -> Seeds:
    seeds = Seeds.sow(app, world)
    seeds.ids |= sow_console(world)
    return seeds


def walks(names: Collection[str]) -> list[Any]:
    """The routes that are only read in one walk, for they leave everything as it is; each of the others by itself."""
    read = [name for name in names if name.startswith("GET ")]
    return [pytest.param(read, id="GET"), *(pytest.param([name], id=name) for name in names if name not in read)]


@contextmanager
def named(name: str) -> Iterator[None]:
    """What fails in here says at which route."""
    try:
        yield
    except AssertionError as fault:
        fault.add_note(f"at {name}")
        raise


def told(answer: TestResponse) -> list[str]:
    """What an answer gives away of the owner."""
    shown = f"{answer.headers} {answer.text}"
    return [mark for mark in MARKS if re.search(BY_ITSELF.format(mark) if mark.isdigit() else re.escape(mark), shown)]


def books(seeds: Seeds) -> dict[str, int]:
    return {meter: seeds.world.used(meter, CUSTOMER) for meter in seeds.world.catalog.meters}


# -- every route has its place -----------------------------------------------------------------------------------------


def test_every_route_is_classified() -> None:
    assert set(OTHERS) == PAGES.keys(), "say in PAGES who may open it, or declare an operation"


def test_every_parameter_is_classified() -> None:
    names = {name for rule in ALL.values() for name in rule.arguments}
    assert names <= OWNED | SHARED
    assert not OWNED & SHARED


def test_the_marks_are_what_the_owner_sees(seeds: Seeds) -> None:
    """Or nothing below would prove anything."""
    owner = seeds.client("owner")
    seen = owner.get(f"/c/{CUSTOMER}/keys").text + owner.get(f"/c/{CUSTOMER}/").text
    for path in ("usage", "sample/files/hello.txt"):
        seen += seeds.app.test_client().get(f"/api/v1/{path}", headers=bearer(seeds.keys["owner"])).text

    assert [mark for mark in MARKS if mark not in seen] == []


# -- the API -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", walks(OPERATIONS))
def test_an_operation_lets_in_who_may_and_nobody_else(seeds: Seeds, names: list[str]) -> None:
    for name in names:
        with named(name):
            ask(seeds, name)


def ask(seeds: Seeds, name: str) -> None:
    """One operation, by everybody."""
    route = OPERATIONS[name]
    declared, request = route.declared, example_request(route, seeds.ids)
    before = books(seeds)

    if not declared.scope:
        answer = call(seeds, request, None)
        assert (answer.status_code, told(answer)) == (declared.example.status, [])
        return

    for session in (None, "owner", "stranger", "operator"):
        answer = call(seeds, request, None, session)
        assert (answer.status_code, told(answer)) == (401, []), f"a session ({session}) is no key"
    assert call(seeds, request, seeds.keys["revoked"]).status_code == 401
    assert call(seeds, request, seeds.key_without(declared.scope)).status_code == 403

    for attempt, may_have_its_own in strangers_requests(route, request):
        answer = call(seeds, attempt, seeds.keys["stranger"])
        assert told(answer) == []
        if declared.operators_only:
            assert answer.status_code == 403
        elif may_have_its_own:
            assert answer.status_code < 500
        else:
            assert answer.status_code in REFUSED, f"a stranger's {attempt}"
    assert books(seeds) == before, "what strangers did changed the owner's usage"

    if declared.operators_only:
        assert call(seeds, request, seeds.keys["owner"]).status_code == 403
        answer = call(seeds, request, seeds.keys["operator"])
    else:
        answer = call(seeds, request, seeds.keys["owner"])
    assert answer.status_code == declared.example.status, answer.text
    for attempt in operators_requests(route, request):
        assert call(seeds, attempt, seeds.keys["operator"]).status_code < 500


def strangers_requests(route: Route, request: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], bool]]:
    """What a stranger may try, each with whether it may be answered with what is the stranger's own."""
    name = f"{route.method} {route.template.path}"
    owned = route.template.schemas.keys() & OWNED
    yield dict(request), not owned or name in OWN_NAMES
    if {"customer", "customer_key", "id_or_key"} & owned and len(owned) > 1:
        # The own customer, with something of another's behind it.
        yield {**request, "path": request["path"].replace(f"/{CUSTOMER}/", f"/{STRANGER}/")}, False
    yield from ((attempt, False) for attempt in naming_the_owner(route, request))


def naming_the_owner(route: Route, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    declared = route.declared
    if declared.query is not None and "customer" in declared.query.model_fields:
        yield {**request, "query_string": {**request["query_string"], "customer": CUSTOMER}}
    if isinstance(declared.body, type) and issubclass(declared.body, Body) and "customer" in declared.body.model_fields:
        body = declared.example.body | {"customer": CUSTOMER}
        yield {name: value for name, value in request.items() if name not in ("data", "content_type")} | {"json": body}


def operators_requests(route: Route, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield dict(request)
    if not route.declared.metered and route.method == "GET":
        yield from naming_the_owner(route, request)


def test_an_operator_may_read_what_it_names(seeds: Seeds) -> None:
    owners = [
        (route, attempt)
        for route in OPERATIONS.values()
        if route.method == "GET" and not route.declared.operators_only
        for attempt in naming_the_owner(route, example_request(route, seeds.ids))
    ]
    assert owners
    for route, attempt in owners:
        assert call(seeds, attempt, seeds.keys["operator"]).status_code == route.declared.example.status


def call(seeds: Seeds, request: Mapping[str, Any], key: str | None, session: str | None = None) -> TestResponse:
    headers = {**request["headers"], **(bearer(key) if key else {})}
    return seeds.client(session).open(**{**request, "headers": headers}, buffered=True)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


# -- pages -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", walks(PAGES))
def test_a_page_lets_in_who_may_and_nobody_else(seeds: Seeds, names: list[str]) -> None:
    for name in names:
        with named(name):
            visit(seeds, name)


def visit(seeds: Seeds, name: str) -> None:
    """One page or form, by everybody."""
    page, (method, _, rule) = PAGES[name], name.partition(" ")
    path = PARAMETER.sub(lambda found: str(page.path.get(found[1]) or seeds.ids[found[1]]), rule)
    before = books(seeds)

    def opened(session: str | None, at: str = path, key: str | None = None) -> TestResponse:
        headers = bearer(key) if key else {}
        return seeds.client(session).open(at, method=method, data=page.form, headers=headers, buffered=True)

    if method != "GET" and page.csrf:
        answer = opened("owner")
        assert (answer.status_code, told(answer)) == (400, []), "without the token of its own form"
    seeds.app.config["WTF_CSRF_ENABLED"] = False

    for answer in (opened(None), opened(None, key=seeds.keys["stranger"]), opened(None, key=seeds.keys["owner"])):
        assert told(answer) == []
        assert answer.status_code == page.status if page.who == "anybody" else asks_to_log_in(answer)

    for at in {path, path.replace(f"/{CUSTOMER}/", f"/{STRANGER}/")}:
        answer = opened("stranger", at)
        assert told(answer) == []
        if page.who in ("own", "customer", "operator") and not only_names_its_customer(rule, at, path):
            assert answer.status_code in (403, 404), f"a stranger at {at}"
    assert books(seeds) == before, "what strangers did changed the owner's usage"

    answer = opened("operator")
    if page.who == "customer":
        assert answer.status_code == (page.status if method == "GET" else 403), "operators look, and change nothing"
    elif page.who == "operator":
        assert answer.status_code == page.status
        assert opened("owner").status_code in (403, 404)
        return
    # Who is logged in already is led on from the login page.
    assert opened("owner").status_code in (page.status, 302)


def test_a_viewer_changes_nothing(seeds: Seeds) -> None:
    """No page of the customer shows a form, and each address that changes something refuses: all of them are tried, so
    that a new one can't be forgotten.
    """
    change_role(seeds.world.session, seeds.world.find(CUSTOMER), seeds.users["colleague"].id, "viewer")
    seeds.world.session.commit()
    viewer, tried = seeds.client("colleague"), 0
    for name, page in PAGES.items():
        method, _, rule = name.partition(" ")
        if page.who != "customer":
            continue
        path = PARAMETER.sub(lambda found: str(seeds.ids[found[1]]), rule)
        seeds.app.config["WTF_CSRF_ENABLED"] = method == "GET"
        before = seeds.world.contents()
        answer = viewer.open(path, method=method, data=page.form, buffered=True)
        if method == "GET":
            assert answer.status_code == page.status, path
            assert not FORM_OF_A_CUSTOMER.findall(answer.text), path
        else:
            assert answer.status_code == 403, f"{method} {path}"
            tried += 1
        assert seeds.world.contents() == before, f"{method} {path}"
    assert tried > 15


def only_names_its_customer(rule: str, at: str, path: str) -> bool:
    """The page of the stranger's own customer, with nothing of another's in its address."""
    return at != path and set(PARAMETER.findall(rule)) == {"customer_key"}


def asks_to_log_in(answer: TestResponse) -> bool:
    return answer.status_code == 401 or (answer.status_code == 302 and answer.location.startswith("/login"))
