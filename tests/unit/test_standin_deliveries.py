"""What becomes of a delivery of the stand-in, attempt by attempt."""

from __future__ import annotations

from typing import Any

import pytest

from metering.stripe_sync.standin.deliveries import DELIVERIES, GIVE_UP_SECONDS, PendingDeliveries, after_attempt
from metering.stripe_sync.standin.store import Change

NEW: dict[str, Any] = {
    "id": "dlv_1",
    "status": "pending",
    "attempts": 0,
    "first_attempt_at": None,
    "next_attempt_at": 0.0,
    "answer": None,
}


def test_each_attempt_waits_twice_as_long_as_the_one_before_and_at_most_five_minutes():
    delivery, waits, at = NEW, [], 1000.0
    for _ in range(11):
        delivery = after_attempt(delivery, 500, at)
        waits.append(delivery["next_attempt_at"] - at)
        at = delivery["next_attempt_at"]

    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert (delivery["status"], delivery["attempts"], delivery["first_attempt_at"]) == ("pending", 11, 1000.0)


def test_it_is_tried_for_three_days_and_then_no_more():
    delivery = after_attempt(NEW, "no answer", 1000.0)

    assert after_attempt(delivery, 500, 1000.0 + GIVE_UP_SECONDS - 1)["status"] == "pending"
    assert after_attempt(delivery, 500, 1000.0 + GIVE_UP_SECONDS)["status"] == "failed"
    assert after_attempt(delivery, 200, 1000.0 + GIVE_UP_SECONDS)["status"] == "delivered"


@pytest.mark.parametrize(
    ("answer", "status"), [(200, "delivered"), (204, "delivered"), (302, "pending"), (410, "pending")]
)
def test_only_2xx_is_an_answer(answer, status):
    assert after_attempt(NEW, answer, 1.0)["status"] == status


def test_what_was_delivered_stays_so_whatever_a_repetition_answers():
    again = after_attempt(after_attempt(NEW, 200, 1.0), 500, 2.0)

    assert (again["status"], again["attempts"], again["answer"]) == ("delivered", 2, 500)


def test_what_is_due_is_pending_and_its_time_has_come():
    pending = PendingDeliveries()
    for id, status, at in (("a", "pending", 5.0), ("b", "delivered", 0.0), ("c", "pending", 1.0)):
        pending.watch(Change(DELIVERIES, id, {**NEW, "id": id, "status": status, "next_attempt_at": at}))

    assert (pending.due(4.9), pending.due(5.0), pending.all()) == (["c"], ["a", "c"], ["a", "c"])
    pending.watch(Change(DELIVERIES, "a", {**NEW, "id": "a", "status": "delivered"}))
    assert (pending.due(9.0), pending.is_due("a", 9.0)) == (["c"], False)
