"""Thresholds of single meters and of the bill: each alerts once a period, on every channel, and can be dismissed."""

import json
import re
from decimal import Decimal

import pytest
from flask import Flask
from sqlalchemy import select

from metering import jobs
from metering.models import Alert, AuditEntry, Mail, WebhookDelivery
from metering.notify.endpoints import create_endpoint
from metering.service import Metering
from tests.factories.callers import ApiConsumer, keep
from tests.factories.managers import admin
from tests.factories.people import Visitor, make_user
from tests.factories.world import World

THRESHOLDS = "/api/v1/customers/acme/alert-thresholds"
PAGE = "/c/acme/alerts"


@pytest.fixture
def acme(app: Flask, world: World) -> ApiConsumer:
    """On the Pro plan, without the catalog's percents."""
    caller = admin(app, world, world.customer("acme", "pro"))
    have(caller)
    return caller


@pytest.fixture
def owner(app: Flask, world: World, acme: ApiConsumer) -> Visitor:
    make_user(world, "owner@acme.example", world.find("acme"))
    visitor = Visitor.of(app)
    visitor.log_in("owner@acme.example")
    return visitor


def have(caller: ApiConsumer, *thresholds: dict[str, object], percents: list[int] | None = None) -> None:
    body = {"percents": percents or [], "thresholds": list(thresholds)}
    assert caller.call("PUT", THRESHOLDS, json=body).status_code == 200


def use(metering: Metering, world: World, quantity: int, meter: str = "api_call") -> None:
    world.record(world.event(meter=meter, quantity=quantity))
    keep(metering)
    world.session.rollback()


def fired(world: World) -> list[tuple[str, Decimal]]:
    world.session.rollback()
    return [(row.kind, row.value) for row in world.session.scalars(select(Alert).order_by(Alert.id))]


class TestWhatFires:
    def test_a_percent_and_a_quantity_of_one_meter_fire_once_a_period(
        self, acme: ApiConsumer, metering: Metering, world: World
    ) -> None:
        have(acme, {"meter": "api_call", "percent": 50}, {"meter": "api_call", "quantity": 70_000})
        use(metering, world, 49_999)
        use(metering, world, 900_000, "tokens")
        assert fired(world) == []

        use(metering, world, 1)
        assert fired(world) == [("percent", 50)]
        use(metering, world, 20_000)
        use(metering, world, 5_000)
        assert fired(world) == [("percent", 50), ("quantity", 70_000)]

        world.now = world.periods("acme")[0].ends_at
        use(metering, world, 69_999)
        assert fired(world)[2:] == [("percent", 50)]

    def test_a_quantity_needs_no_limit(self, app: Flask, metering: Metering, world: World) -> None:
        caller = admin(app, world, world.customer("acme", "enterprise"))
        have(caller, {"meter": "tokens", "quantity": 3_000_000}, {"meter": "tokens", "percent": 1})

        use(metering, world, 3_000_000, "tokens")

        assert fired(world) == [("quantity", 3_000_000)]

    def test_the_same_percent_for_all_meters_and_for_one_is_one_alert(
        self, acme: ApiConsumer, metering: Metering, world: World
    ) -> None:
        have(acme, {"meter": "api_call", "percent": 80}, percents=[80])

        use(metering, world, 80_000)

        assert fired(world) == [("percent", 80)]

    def test_the_bill_fires_at_the_amount_that_it_comes_to(
        self, acme: ApiConsumer, metering: Metering, world: World
    ) -> None:
        """49.00 and a tenth of a cent for each call after the 10,000th: 51.00 at 12,000 calls."""
        have(acme, {"amount": "51.00"}, {"amount": "60"})
        use(metering, world, 11_900)
        assert fired(world) == []

        use(metering, world, 100)
        use(metering, world, 100)

        assert fired(world) == [("money", Decimal(51))]
        (alert,) = acme.get("/api/v1/customers/acme/alerts").json["items"]
        facts = ("kind", "amount", "total", "currency", "meter", "used", "limit", "percent", "quantity")
        assert [alert[name] for name in facts] == ["money", "51.00", "51.00", "USD", None, None, None, None, None]

    def test_a_bill_that_grows_by_itself_fires_when_its_hour_is_closed(
        self, app: Flask, metering: Metering, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """733,650 GiB are 1,005 GB-months an hour: 499.00 and 0.02 for each after the fifth make 522.35 at 13:10."""
        caller = admin(app, world, world.customer("acme", "enterprise"))
        have(caller, {"amount": "519"}, {"amount": "523"})
        use(metering, world, 733_650 * 2**30, "storage_bytes")
        assert fired(world) == []

        world.advance(minutes=70)
        monkeypatch.setattr(jobs, "runtime", lambda: metering.runtime)
        assert jobs.close_hours() > 0

        assert fired(world) == [("money", Decimal(519))]
        assert world.session.scalars(select(Alert.total)).one() == Decimal("522.35")

    def test_usage_that_was_taken_back_does_not_fire(self, acme: ApiConsumer, metering: Metering, world: World) -> None:
        have(acme, {"meter": "api_call", "quantity": 100})
        event = world.event(quantity=60)
        world.record(event)
        keep(metering)
        metering.void("acme", event.id, source="test", reason="by mistake", actor="a test")
        use(metering, world, 60)
        assert fired(world) == []

        use(metering, world, 40)
        assert fired(world) == [("quantity", 100)]


class TestChannels:
    def test_each_kind_is_mailed_and_posted_with_what_it_is(
        self, acme: ApiConsumer, owner: Visitor, metering: Metering, world: World
    ) -> None:
        have(acme, {"meter": "api_call", "quantity": 11_000}, {"amount": "51"})
        acme_row = world.find("acme")
        create_endpoint(
            world.session, acme_row, url="https://hooks.example.com/", events=["alert.crossed"], now=world.now
        )
        world.session.commit()

        use(metering, world, 12_000)

        bodies = [json.loads(body)["data"] for body in world.session.scalars(select(WebhookDelivery.body))]
        facts = {data["kind"]: data for data in bodies}
        assert facts.keys() == {"quantity", "money"}
        assert (facts["quantity"]["quantity"], facts["quantity"]["used"], facts["quantity"]["meter"]) == (
            "11000",
            "12000",
            "api_call",
        )
        assert (facts["money"]["amount"], facts["money"]["total"], facts["money"]["currency"]) == (
            "51.00",
            "51.00",
            "USD",
        )
        mail = world.session.scalars(select(Mail)).one()
        assert (mail.subject, mail.body.splitlines()[:4]) == (
            "Acme, the bill: $51.00 reached",
            [
                "Acme has crossed these thresholds in the period Nov 1 – 30, 2026:",
                "",
                "* API calls: 11,000 API calls (12,000 API calls used)",
                "* The bill of this period: $51.00 (it has come to $51.00)",
            ],
        )
        pages = "http://localhost:8000/c/acme"
        assert re.findall(r"http\S+", mail.body) == [f"{pages}/usage", f"{pages}/plan", f"{pages}/alerts"]
        page = owner.open(PAGE).text
        assert page.count("told-neutral") == 4, "an e-mail and a webhook that wait, of each of two alerts"


class TestThePage:
    def add(self, owner: Visitor, of: str, value: str) -> tuple[int, str]:
        answer = owner.submit(PAGE, f"{PAGE}/thresholds", of=of, value=value)
        return answer.status_code, answer.text

    def test_thresholds_are_added_and_removed(self, owner: Visitor, acme: ApiConsumer, world: World) -> None:
        assert self.add(owner, "*", "75 %")[0] == 303
        assert self.add(owner, "storage_bytes", "2 GB")[0] == 303
        assert self.add(owner, "tokens", "5,000")[0] == 303
        for time in ("90", "20 min", "1 h 30 min", "0.5 s"):
            assert self.add(owner, "compute_seconds", time)[0] == 303
        assert self.add(owner, "$", "$60.50")[0] == 303
        assert acme.get(THRESHOLDS).json == {
            "percents": [75],
            "inherited": False,
            "thresholds": [
                *({"meter": "compute_seconds", "quantity": seconds} for seconds in (0.5, 90, 1200, 5400)),
                {"meter": "storage_bytes", "quantity": 2 * 2**30},
                {"meter": "tokens", "quantity": 5_000},
                {"amount": "60.50"},
            ],
        }
        page = owner.open(PAGE).text
        assert all(shown in page for shown in ("75%", "2 GB", "$60.50"))

        owner.submit(PAGE, f"{PAGE}/thresholds/remove", of="tokens", kind="quantity", value="5000")
        owner.submit(PAGE, f"{PAGE}/thresholds/remove", of="*", kind="percent", value="75")
        owner.submit(PAGE, f"{PAGE}/thresholds/remove", of="tokens", kind="quantity", value="5000")
        left = acme.get(THRESHOLDS).json
        assert [left["percents"], len(left["thresholds"])] == [[], 6]

        owner.submit(PAGE, f"{PAGE}/thresholds/standard")
        owner.submit(PAGE, f"{PAGE}/thresholds/remove", of="*", kind="percent", value="75")
        assert acme.get(THRESHOLDS).json["inherited"] is True
        world.session.rollback()
        notes = world.session.scalars(select(AuditEntry.action)).all()
        assert notes.count("alert_thresholds.change") == 12, "one for each change that was one, the API's among them"

    @pytest.mark.parametrize(
        ("of", "value", "says"),
        [
            ("api_call", "0%", "Must be a whole percent from 1 to 1,000."),
            ("api_call", "1001 %", "Must be a whole percent from 1 to 1,000."),
            ("api_call", "fifty%", "Must be a percent of the limit, such as 80%."),
            ("api_call", "$5", "Must be a percent, such as 80%, or a quantity, such as 5,000."),
            ("api_call", "-5", "Must be a percent, such as 80%, or a quantity, such as 5,000."),
            ("api_call", "2.5", "Must be a whole number of API calls, such as 5,000."),
            ("tokens", "5.000", "Must be a whole number of tokens, such as 5,000."),
            ("storage_bytes", "5,5 GB", "Must be a percent, such as 80%, or a size, such as 500 MB or 5 GB."),
            (
                "compute_seconds",
                "1 h 30",
                "Must be a percent, such as 80%, or a time, such as 90 s, 20 min or 1 h 30 min.",
            ),
            ("$", "1.250", "Must have at most 2 decimal places, as USD has."),
            ("storage_bytes", "big", "Must be a percent, such as 80%, or a size, such as 500 MB or 5 GB."),
            (
                "compute_seconds",
                "2 lightyears",
                "Must be a percent, such as 80%, or a time, such as 90 s, 20 min or 1 h 30 min.",
            ),
            ("$", "0", "Must be above 0 and at most 1,000,000,000,000."),
            ("$", "1.005", "Must have at most 2 decimal places, as USD has."),
            ("$", "49,50", "Must be an amount, such as $1,250.00."),
            ("$", "5%", "Must be an amount, such as $1,250.00."),
            ("*", "5,000 calls", "Must be a percent of each limit, such as 80%."),
            ("nothing", "5", "Must be one of these."),
        ],
    )
    def test_what_can_be_none_is_refused_and_stays_in_its_field(
        self, owner: Visitor, acme: ApiConsumer, of: str, value: str, says: str
    ) -> None:
        status, page = self.add(owner, of, value)

        assert status == 422
        assert says in page
        assert f'value="{value}"' in page
        assert acme.get(THRESHOLDS).json["thresholds"] == []

    def test_what_is_past_already_says_so_and_alerts_with_what_is_used_next(
        self, owner: Visitor, metering: Metering, world: World
    ) -> None:
        use(metering, world, 50)

        for of, value in (("api_call", "50"), ("$", "49")):
            answer = owner.submit(PAGE, f"{PAGE}/thresholds", of=of, value=value)
            assert "it alerts with what is used next" in owner.open(answer.location).text
        assert "50 API calls reached" not in owner.open("/c/acme/").text
        assert (
            "is used next"
            not in owner.open(owner.submit(PAGE, f"{PAGE}/thresholds", of="api_call", value="52").location).text
        )
        use(metering, world, 1)
        assert "50 API calls reached" in owner.open("/c/acme/").text
        assert fired(world) == [("quantity", Decimal(50)), ("money", Decimal(49))]

    def test_twenty_are_the_most(self, owner: Visitor, acme: ApiConsumer) -> None:
        have(acme, *({"amount": f"{amount}"} for amount in range(50, 70)))

        status, page = self.add(owner, "$", "99")

        assert (status, "there are 20 of meters and of the bill" in page) == (422, True)
        assert self.add(owner, "$", "50")[1].count("this one is there") == 1

    def test_an_alert_is_dismissed_by_who_may(
        self, app: Flask, owner: Visitor, acme: ApiConsumer, metering: Metering, world: World
    ) -> None:
        have(acme, {"meter": "api_call", "quantity": 10}, {"meter": "api_call", "percent": 5}, {"amount": "49"})
        use(metering, world, 5_000)
        shown = (
            "API calls: 10 API calls reached",
            "The bill of this period has reached $49",
            "API calls: 5% of the limit",
        )
        overview = owner.open("/c/acme/").text
        assert [title in overview for title in shown] == [True, True, True]
        ids = world.session.scalars(select(Alert.id)).all()

        make_user(world, "viewer@acme.example", world.find("acme"), "viewer")
        viewer = Visitor.of(app)
        viewer.log_in("viewer@acme.example")
        for alert_id in ids:
            assert viewer.submit("/c/acme/", f"{PAGE}/{alert_id}/dismiss").status_code == 403
            assert owner.submit("/c/acme/", f"{PAGE}/{alert_id}/dismiss").status_code == 303

        overview = owner.open("/c/acme/").text
        assert [title in overview for title in shown] == [False, False, False]
        assert owner.open(PAGE).text.count("Dashboard, dismissed") == 3
        use(metering, world, 5_000)
        assert len(fired(world)) == 3, "what was dismissed does not fire again"
        assert owner.submit("/c/acme/", f"{PAGE}/{max(ids) + 1}/dismiss").status_code == 404


class TestTheApi:
    @pytest.mark.parametrize(
        ("threshold", "field"),
        [
            ({"meter": "api_call"}, "thresholds.0"),
            ({"meter": "api_call", "percent": 5, "quantity": 5}, "thresholds.0"),
            ({"amount": "5", "meter": "api_call"}, "thresholds.0"),
            ({"meter": "nothing", "quantity": 5}, "thresholds.0.meter"),
            ({"meter": "api_call", "quantity": 0}, "thresholds.0.quantity"),
            ({"amount": "0.001"}, "thresholds.0.amount"),
            ({"meter": "api_call", "percent": 0}, "thresholds.0.percent"),
        ],
    )
    def test_a_bad_threshold_is_refused_and_named(
        self, acme: ApiConsumer, threshold: dict[str, object], field: str
    ) -> None:
        answer = acme.call("PUT", THRESHOLDS, json={"percents": [], "thresholds": [threshold]})

        assert (answer.status_code, answer.json["type"]) == (400, "/problems/invalid-request")
        assert [fault["field"] for fault in answer.json["errors"]] == [field]
        assert acme.get(THRESHOLDS).json["thresholds"] == []

    def test_without_thresholds_what_is_there_stays_and_an_empty_list_takes_it_away(self, acme: ApiConsumer) -> None:
        have(acme, {"amount": "75"})

        kept = acme.call("PUT", THRESHOLDS, json={"percents": [10]}).json
        assert kept == {"percents": [10], "inherited": False, "thresholds": [{"amount": "75.00"}]}
        assert acme.call("PUT", THRESHOLDS, json={"percents": [10], "thresholds": []}).json["thresholds"] == []
