"""The usage page: what is chosen is shown, as a chart, as a table and as CSV, and nothing of others."""

import csv
import html
import io
import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select

from metering.models import ApiKey, Customer
from tests.factories.people import Visitor, make_user
from tests.factories.world import World

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
PAGE, CSV = "/c/acme/usage", "/c/acme/usage.csv"


@pytest.fixture
def acme(world: World) -> Customer:
    """On the pro plan in Berlin; it is November 10, 13:00 there."""
    customer = world.customer("acme", "pro", timezone="Europe/Berlin")
    make_user(world, "owner@acme.example", customer, "owner")
    return customer


@pytest.fixture
def owner(app: Flask, acme: Customer) -> Visitor:
    visitor = Visitor.of(app)
    visitor.log_in("owner@acme.example")
    return visitor


def use(world: World, quantity: object, ago: timedelta, *, meter: str = "api_call", **more: Any) -> None:
    at = int((world.now - ago).timestamp() * 1_000_000)
    world.record(world.event(meter=meter, quantity=quantity, time=at, **more))
    world.drain()


def chart(page: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(html.unescape(re.findall(r"data-chart=\"([^\"]+)\"", page)[0]))
    return found


def drawn(page: str) -> dict[str, dict[str, float]]:
    """What is not nothing, by series and label."""
    found = chart(page)
    return {
        one["label"]: {label: value for label, value in zip(found["labels"], one["values"], strict=True) if value}
        for one in found["series"]
    }


def table(visitor: Visitor, query: str = "") -> list[dict[str, str]]:
    answer = visitor.open(CSV + query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Disposition"] == 'attachment; filename="usage-acme-api_call.csv"'
    return list(csv.DictReader(io.StringIO(answer.text)))


def test_thirty_days_are_shown_by_the_days_of_the_customers_zone(world: World, owner: Visitor) -> None:
    """Given usage at 23:30 UTC of the 8th, then it is that of the 9th in Berlin."""
    use(world, 5, HOUR)
    use(world, 7, world.now - datetime(2026, 11, 8, 23, 30, tzinfo=UTC))

    page = owner.open(PAGE).text

    assert drawn(page) == {"API calls": {"Nov 9": 7, "Nov 10": 5}}
    assert len(chart(page)["labels"]) == 30
    assert 'title="12 API calls"' in page
    assert re.findall(r"<time[^>]*>(Nov \d+)</time>", page)[:2] == ["Nov 10", "Nov 9"], "newest first"
    assert [(row["window_start"], row["value"]) for row in table(owner)] == [
        ("2026-11-09T00:00:00+01:00", "7"),
        ("2026-11-10T00:00:00+01:00", "5"),
    ]


@pytest.mark.parametrize(
    ("query", "labels", "last"),
    [
        ("range=7d&window=hour", 6 * 24 + 14, "Nov 10, 13:00"),
        ("range=7d", 7, "Nov 10"),
        ("range=90d&window=month", 4, "Nov 2026"),
        ("range=period&window=day", 10, "Nov 10"),
        ("range=own&from=2026-11-01&to=2026-11-03", 3, "Nov 3"),
    ],
)
def test_ranges_and_windows(owner: Visitor, world: World, query: str, labels: int, last: str) -> None:
    for days in range(80):
        use(world, 1, days * DAY + timedelta(minutes=5)) if days in (0, 7, 8, 9, 33) else None

    shown = chart(owner.open(f"{PAGE}?{query}").text)

    assert (len(shown["labels"]), shown["labels"][-1]) == (labels, last)


def test_the_day_on_which_clocks_are_put_back_has_25_hours(world: World, owner: Visitor) -> None:
    use(world, 1, world.now - datetime(2026, 10, 25, 12, tzinfo=UTC))

    page = owner.open(f"{PAGE}?range=own&from=2026-10-25&to=2026-10-25&window=hour").text

    labels = chart(page)["labels"]
    assert len(labels) == 25
    assert labels.count("Oct 25, 02:00") == 2


def test_groups_stand_on_each_other_and_the_small_ones_are_one(world: World, owner: Visitor) -> None:
    for place in range(9):
        use(world, 10 - place, HOUR, properties={"path": f"/v1/{place}"})

    page = owner.open(f"{PAGE}?group=path").text

    assert drawn(page) == {f"/v1/{place}": {"Nov 10": 10 - place} for place in range(6)} | {"Other": {"Nov 10": 9}}
    assert chart(page)["stacked"] is True
    assert len(table(owner, "?group=path")) == 9, "all of them"


def test_usage_is_told_apart_by_the_name_of_its_key(world: World, owner: Visitor, acme: Customer) -> None:
    world.key(acme)
    use(world, 4, HOUR, key_id=world.session.scalars(select(ApiKey.id)).one())
    use(world, 1, HOUR)

    assert drawn(owner.open(f"{PAGE}?group=keyId").text) == {"test": {"Nov 10": 4}, "(none)": {"Nov 10": 1}}
    assert sorted(row["keyId"] for row in table(owner, "?group=keyId")) == ["", "test"]


def test_it_is_compared_with_the_days_before(world: World, owner: Visitor) -> None:
    use(world, 30, DAY)
    use(world, 20, 8 * DAY)

    page = owner.open(f"{PAGE}?range=7d&compare=y").text

    assert drawn(page) == {"API calls": {"Nov 9": 30}, "Before": {"Nov 9": 20}}
    assert "+50%" in page


def test_this_period_is_compared_with_the_last(world: World, owner: Visitor, acme: Customer) -> None:
    use(world, 8, HOUR)
    world.advance(days=30)
    owner.log_in("owner@acme.example")  # a session does not last so long
    owner.open(PAGE)  # makes the period, where the job that does is late
    world.send()
    use(world, 2, HOUR)

    assert drawn(owner.open(f"{PAGE}?range=period&compare=y").text) == {
        "API calls": {"Dec 10": 2},
        "Before": {"Dec 10": 8},
    }


def test_a_level_is_a_line_and_unknown_before_it_was_first_set(world: World, owner: Visitor) -> None:
    use(world, 5_000_000, 2 * DAY, meter="storage_bytes")

    page = owner.open(f"{PAGE}?meter=storage_bytes&range=7d").text

    (series,) = chart(page)["series"]
    assert chart(page)["kind"] == "line"
    assert series["values"][:4] == [None] * 4
    assert series["values"][-1] == 5_000_000
    assert "4.8\N{NO-BREAK SPACE}MB" in page
    assert "disabled" in re.findall(r'<select[^>]*id="group"[^>]*>', page)[0]


def test_an_empty_range_says_what_to_do(owner: Visitor) -> None:
    page = owner.open(f"{PAGE}?meter=messages").text
    assert "Nothing in this range" in page
    assert "/c/acme/quickstart" in page


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("meter=nonsense", "There is no such meter"),
        ("range=ever", "There is no such range"),
        ("window=second", "Windows are hours, days or months"),
        ("group=secret", "be grouped by that"),
        ("meter=seats&group=path", "be grouped by that"),
        ("range=own", "Give both days"),
        ("range=own&from=2026-11-05&to=2026-11-01", "must end after it begins"),
        ("range=own&from=2026-11-05&to=9999-12-31", "must end after it begins"),
        ("range=own&from=2027-01-01&to=2027-01-02", "has not begun yet"),
        ("range=90d&window=hour", "at most 744 are shown"),
        ("meter=%27%3B--", "There is no such meter"),
    ],
)
def test_what_cannot_be_shown_is_said(owner: Visitor, query: str, words: str) -> None:
    answer = owner.open(f"{PAGE}?{query}")

    assert answer.status_code == 400
    assert words in answer.text.replace("’", "'").replace("can't ", "")
    assert owner.open(f"{CSV}?{query}").status_code == 400


def test_a_spreadsheet_takes_nothing_for_a_formula(world: World, owner: Visitor) -> None:
    use(world, 1, HOUR, properties={"path": "=1+1"})

    assert [row["path"] for row in table(owner, "?group=path")] == ["'=1+1"]
    assert "=1+1" in drawn(owner.open(f"{PAGE}?group=path").text)


def test_nothing_of_others_is_shown(app: Flask, world: World, owner: Visitor) -> None:
    make_user(world, "stranger@bolt.example", world.customer("bolt", "pro"))
    use(world, 3, HOUR)
    stranger = Visitor.of(app)
    stranger.log_in("stranger@bolt.example")

    assert [stranger.open(path).status_code for path in (PAGE, CSV)] == [404, 404]
    assert "Nothing in this range" in stranger.open("/c/bolt/usage").text


def test_the_page_and_the_query_agree(world: World, owner: Visitor) -> None:
    for days in range(0, 28, 3):
        use(world, days + 1, days * DAY + HOUR)

    shown = sum(Decimal(str(value)) for value in drawn(owner.open(PAGE).text)["API calls"].values())
    assert shown == sum(Decimal(row["value"]) for row in table(owner)) == sum(days + 1 for days in range(0, 28, 3))
