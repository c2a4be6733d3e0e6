"""The sample API does real work on every meter and counts what it did."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from flask import Flask
from sqlalchemy import func, select

from metering.api.sample import storage
from metering.api.sample.compute import chain
from metering.api.sample.markov import TOKEN, complete
from metering.models import Customer, Level, SampleFile, SampleMessage
from metering.service import Metering
from tests.factories.callers import ApiConsumer, consumer, keep
from tests.factories.world import World

MIB = 1024 * 1024
FREE_STORAGE = 100 * MIB
ROAMING = "the cat sat on the mat and the dog sat on the cat and the mat"


@pytest.fixture
def acme(app: Flask, world: World) -> ApiConsumer:
    return consumer(app, world)


def test_a_ping_counts_one_call(acme: ApiConsumer, world: World) -> None:
    answer = acme.get("/api/v1/sample/ping")

    assert (answer.status_code, answer.json) == (200, {"pong": True})
    assert world.used() == 1
    assert world.held() == 0


def test_messages_are_kept_and_counted_by_recipient(acme: ApiConsumer, world: World, metering: Metering) -> None:
    answer = acme.post("/api/v1/sample/messages", json={"to": ["a@x.test", "b@x.test"], "text": "hello"})

    assert answer.status_code == 201
    assert answer.json == {"id": answer.json["id"], "sent": 2}
    assert (world.used("messages"), world.used()) == (2, 1)
    row = world.session.scalars(select(SampleMessage)).one()
    assert (row.recipients, row.body, row.sent_at) == (["a@x.test", "b@x.test"], "hello", world.now)
    keep(metering)
    assert (world.total("messages"), world.total()) == (2, 1)


def test_messages_past_the_limit_are_refused_and_not_kept(acme: ApiConsumer, world: World) -> None:
    world.record(world.event(meter="messages", quantity=99))

    answer = acme.post("/api/v1/sample/messages", json={"to": ["a", "b"], "text": "hello"})

    assert (answer.status_code, answer.json["meter"], answer.json["remaining"]) == (429, "messages", 1)
    assert world.session.scalar(select(func.count()).select_from(SampleMessage)) == 0
    assert (world.used("messages"), world.used()) == (99, 0)


def test_a_completion_streams_and_is_charged_by_token(acme: ApiConsumer, world: World) -> None:
    answer = acme.post("/api/v1/sample/complete", json={"prompt": ROAMING, "max_tokens": 40})

    assert answer.status_code == 200
    assert "Content-Length" not in answer.headers, "it is streamed"
    assert len(TOKEN.findall(answer.text)) == 40
    assert (world.used("tokens"), world.held("tokens")) == (40, 0)


def test_a_completion_that_ends_early_is_charged_for_what_it_produced(acme: ApiConsumer, world: World) -> None:
    answer = acme.post("/api/v1/sample/complete", json={"prompt": "Stop. Stop. Stop.", "max_tokens": 500})

    produced = len(TOKEN.findall(answer.text))
    assert 1 <= produced < 500
    assert world.used("tokens") == produced


def test_a_client_that_goes_away_pays_for_what_was_produced(acme: ApiConsumer, world: World) -> None:
    body = {"prompt": ROAMING, "max_tokens": 1000}
    answer = acme.post("/api/v1/sample/complete", json=body, buffered=False)
    parts = iter(answer.response)
    received = [next(parts) for _ in range(7)]
    assert (world.used("tokens"), world.held("tokens")) == (0, 1000)

    answer.close()

    assert len(received) == world.used("tokens") == 7
    assert (world.held("tokens"), world.used()) == (0, 1)


def test_the_same_prompt_gives_the_same_text_from_its_own_words() -> None:
    text = "".join(complete(ROAMING, 30))

    assert text == "".join(complete(ROAMING, 30))
    assert set(TOKEN.findall(text)) <= set(ROAMING.split())


def test_compute_burns_and_charges_cpu_time(acme: ApiConsumer, world: World) -> None:
    answer = acme.post("/api/v1/sample/compute", json={"seconds": 0.05})

    measured = Decimal(answer.json["seconds"])
    assert Decimal("0.03") < measured <= Decimal("0.06")
    assert world.used("compute_seconds") == int(measured * 10**6)
    assert world.held("compute_seconds") == 0


def test_the_chain_stays_within_its_budget() -> None:
    spent, links, digest = chain(20_000_000)

    assert spent <= 25_000_000
    assert links > 0
    assert len(digest) == 64


BAD_BODIES = [
    ("messages", b"{", "no JSON"),
    ("messages", b"\xff\xfe", "no JSON"),
    ("messages", b"[" * 100_000, "no JSON"),
    ("messages", b"[]", "body"),
    ("messages", b"{}", "to: "),
    ("messages", b'{"to": [], "text": "x"}', "to: "),
    ("messages", b'{"to": 5, "text": "x"}', "to: "),
    ("messages", b'{"to": ["a"], "text": "x", "extra": 1}', "extra: "),
    ("messages", b'{"to": ["a"], "text": "\\u0000"}', "NUL"),
    ("messages", b'{"to": ["a"], "text": "\\ud800"}', "text: "),
    ("complete", b'{"prompt": "x", "max_tokens": -1}', "max_tokens: "),
    ("complete", b'{"prompt": "x", "max_tokens": 1.5}', "max_tokens: "),
    ("complete", b'{"prompt": "x", "max_tokens": "5"}', "max_tokens: "),
    ("complete", b'{"prompt": "x", "max_tokens": true}', "max_tokens: "),
    ("complete", b'{"prompt": "x", "max_tokens": 1e99}', "max_tokens: "),
    ("complete", b'{"prompt": "x"}', "max_tokens: "),
    ("compute", b'{"seconds": NaN}', "NaN"),
    ("compute", b'{"seconds": -Infinity}', "Infinity"),
    ("compute", b'{"seconds": -1}', "seconds: "),
    ("compute", b'{"seconds": 0}', "seconds: "),
    ("compute", b'{"seconds": 11}', "seconds: "),
    ("compute", b'{"seconds": 0.0000001}', "seconds: "),
    ("compute", b'{"seconds": "1"}', "seconds: "),
    ("compute", b'{"seconds": null}', "seconds: "),
    ("compute", b"", "no JSON"),
]


@pytest.mark.parametrize(("noun", "body", "said"), BAD_BODIES)
def test_a_bad_body_is_refused_clearly_and_counts_nothing(
    acme: ApiConsumer, world: World, noun: str, body: bytes, said: str
) -> None:
    answer = acme.post(f"/api/v1/sample/{noun}", data=body, content_type="application/json")

    assert answer.status_code == 400
    assert answer.content_type == "application/problem+json"
    assert answer.json["type"] == "/problems/invalid-request"
    assert said in answer.json["detail"]
    assert (world.used(), world.held()) == (0, 0)


def test_a_file_is_kept_returned_replaced_and_removed(acme: ApiConsumer, world: World, metering: Metering) -> None:
    path = "/api/v1/sample/files/notes"

    assert acme.put(path, b"x" * 100).status_code == 201
    assert world.used("storage_bytes") == 100
    assert acme.get(path).data == b"x" * 100
    assert acme.put(path, b"y" * 30).status_code == 200
    assert world.used("storage_bytes") == 30
    assert acme.get(path).data == b"y" * 30
    assert acme.delete(path).status_code == 204
    assert acme.get(path).status_code == 404
    assert acme.delete(path).status_code == 404

    assert (world.used("storage_bytes"), world.held("storage_bytes")) == (0, 0)
    keep(metering)  # the inbox has the same events: they count no second time
    assert (world.used("storage_bytes"), stored_level(world)) == (0, 0)
    assert world.total() == 7


def test_another_customers_file_is_not_there(acme: ApiConsumer, app: Flask, world: World) -> None:
    acme.put("/api/v1/sample/files/notes", b"secret")
    stranger = consumer(app, world, "stranger")

    assert stranger.get("/api/v1/sample/files/notes").status_code == 404
    assert stranger.delete("/api/v1/sample/files/notes").status_code == 404
    assert stranger.put("/api/v1/sample/files/notes", b"mine").status_code == 201

    assert acme.get("/api/v1/sample/files/notes").data == b"secret"
    assert world.used("storage_bytes") == 6
    assert world.used("storage_bytes", "stranger") == 4


def test_a_file_past_the_limit_is_refused_and_the_old_one_stays(acme: ApiConsumer, world: World) -> None:
    path = "/api/v1/sample/files/notes"
    acme.put(path, b"old" * 10)
    world.record(world.event(meter="storage_bytes", quantity=FREE_STORAGE - 100))

    answer = acme.put(path, b"n" * 131)

    assert (answer.status_code, answer.json["meter"], answer.json["remaining"]) == (429, "storage_bytes", 70)
    assert answer.json["resets_at"] is None
    assert acme.get(path).data == b"old" * 10
    assert world.used("storage_bytes") == FREE_STORAGE - 70
    assert world.held("storage_bytes") == 0
    assert world.used() == 2, "the refused call counts nothing"
    assert acme.put(path, b"n" * 100).status_code == 200, "only the difference needs room"
    assert world.used("storage_bytes") == FREE_STORAGE


def test_a_file_can_be_removed_while_the_level_is_past_the_limit(acme: ApiConsumer, world: World) -> None:
    acme.put("/api/v1/sample/files/notes", b"x" * 50)
    world.record(world.event(meter="storage_bytes", quantity=FREE_STORAGE))

    assert acme.delete("/api/v1/sample/files/notes").status_code == 204

    assert world.used("storage_bytes") == FREE_STORAGE


def test_writers_of_one_file_at_once_count_it_once(app: Flask, world: World, metering: Metering) -> None:
    acme = consumer(app, world, plan="pro")

    def write(number: int) -> int:
        return acme.put("/api/v1/sample/files/shared", b"x" * (100 + number)).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(write, range(24)))

    assert sorted(statuses) == [200] * 23 + [201]
    (size,) = world.session.scalars(select(SampleFile.size)).all()
    keep(metering)
    assert world.used("storage_bytes") == size == stored_level(world)
    assert world.held("storage_bytes") == 0


def test_a_process_that_dies_after_its_commit_leaves_file_and_level_in_agreement(
    app: Flask, world: World, metering: Metering, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer(app, world)
    monkeypatch.setattr(storage, "visit", die)

    customer = world.session.scalars(select(Customer)).one()

    with app.app_context(), pytest.raises(Died):
        storage.write(metering, world.session, customer, "notes", b"x" * 100)

    assert (world.used("storage_bytes"), world.held("storage_bytes")) == (0, 100)
    keep(metering)
    assert world.used("storage_bytes") == 100 == stored_level(world)
    world.advance(seconds=31)
    assert world.held("storage_bytes") == 0


@pytest.mark.parametrize("name", ["a" * 256, "line%0Abreak", "nul%00"])
def test_a_name_that_is_none_is_refused(acme: ApiConsumer, name: str) -> None:
    assert acme.put(f"/api/v1/sample/files/{name}", b"x").status_code == 400


def stored_level(world: World) -> int:
    world.session.commit()
    return world.session.scalars(select(Level.level)).one()


class Died(BaseException):
    """Stands for a SIGKILL: nothing after it runs."""


def die(place: str) -> None:
    raise Died(place)
