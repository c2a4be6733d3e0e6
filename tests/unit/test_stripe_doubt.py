"""What a summary says of rows that may be in it or not, beside all the ways in which they could."""

from datetime import UTC, datetime
from decimal import Decimal
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from metering.stripe_sync.doubt import MOST_UNCERTAIN, Candidate, Verdict, Window, judge

HOUR = datetime(2026, 11, 10, 12, tzinfo=UTC)
VALUES = st.integers(-20, 20).filter(bool)


def window(certain: int, *values: int) -> Window:
    return Window(HOUR, certain, tuple(Candidate(id, value) for id, value in enumerate(values)), HOUR)


@given(st.integers(0, 50), st.lists(VALUES, min_size=1, max_size=5), st.data())
def test_a_verdict_is_right_whatever_became_of_the_rows(certain: int, values: list[int], data: st.DataObject) -> None:
    """Decided one after the other, as the sender does, the rows taken for counted come to what Stripe has."""
    fates = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
    found = certain + sum(value for value, counted in zip(values, fates, strict=True) if counted)
    waiting = list(enumerate(values))
    while waiting:
        now = Window(HOUR, certain, tuple(Candidate(*row) for row in waiting), HOUR)
        verdict = judge(now, waiting[0][0], Decimal(found))
        possible = [
            some
            for some in product((False, True), repeat=len(waiting))
            if certain + sum(value for (_, value), counted in zip(waiting, some, strict=True) if counted) == found
        ]
        assert possible, "a verdict made the true history impossible"
        if verdict is Verdict.UNCLEAR:
            assert len(possible) > 1
            return
        _, value = waiting.pop(0)
        certain += value if verdict is Verdict.COUNTED else 0
    assert certain == found


def test_one_row_is_there_or_not() -> None:
    assert judge(window(7, 5), 0, Decimal(12)) is Verdict.COUNTED
    assert judge(window(7, 5), 0, Decimal(7)) is Verdict.NOT_COUNTED
    assert judge(window(7, 5), 0, Decimal(9)) is Verdict.UNCLEAR
    assert judge(window(0, -5), 0, Decimal(-5)) is Verdict.COUNTED


def test_other_rows_that_may_be_there_are_thought_of() -> None:
    assert judge(window(0, 5, 3), 0, Decimal(3)) is Verdict.NOT_COUNTED
    assert judge(window(0, 5, 3), 0, Decimal(8)) is Verdict.COUNTED
    # 5 alone, or 3 and 2: nobody knows.
    assert judge(window(0, 5, 3, 2), 0, Decimal(5)) is Verdict.UNCLEAR


def test_of_equal_rows_as_many_are_taken_for_counted_as_there_must_be() -> None:
    assert [judge(window(0, 4, 4, 4), row, Decimal(8)) for row in range(3)] == [
        Verdict.COUNTED,
        Verdict.COUNTED,
        Verdict.NOT_COUNTED,
    ]


def test_with_too_many_uncertain_rows_nothing_is_said() -> None:
    assert judge(window(0, *[1] * (MOST_UNCERTAIN + 1)), 0, Decimal(1)) is Verdict.UNCLEAR
