"""What is wrong with a field is said in sentences of ours, which name what was expected."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from metering.api.complaints import complaint
from metering.api.shapes import Quantity, StatedInstant


class Inner(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    name: str


class Sent(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    text: Annotated[str, Field(min_length=1, max_length=1000)] = "x"
    whole: Annotated[int, Field(ge=1, le=9)] = 1
    number: Annotated[Decimal, Field(gt=0, lt=1)] = Decimal("0.5")
    quantity: Quantity = Decimal(1)
    yes: bool = True
    at: StatedInstant | None = None
    word: Literal["a", "b"] = "a"
    some: Annotated[list[str], Field(min_length=1, max_length=2)] = Field(default_factory=list)
    inner: Inner | None = None
    by_name: Annotated[dict[str, int], Field(max_length=1)] = Field(default_factory=dict)
    slug: Annotated[str, Field(pattern="^[a-z]+$")] = "x"


def said(**sent: Any) -> str:
    with pytest.raises(ValidationError) as refused:
        Sent.model_validate(sent)
    (fault,) = refused.value.errors(include_url=False)
    return complaint(fault)


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({"text": 3}, "must be a string, not 3"),
        ({"text": 10**5000}, "must be a string, not a number"),
        ({"text": ""}, "must not be empty"),
        ({"text": "x" * 1001}, "must have at most 1,000 characters"),
        ({"slug": "A b"}, "must match the pattern ^[a-z]+$"),
        ({"whole": "three"}, "must be a whole number, not 'three'"),
        ({"whole": Decimal("1.5")}, "must be a whole number, not 1.5"),
        ({"whole": 0}, "must be at least 1"),
        ({"whole": 10}, "must be at most 9"),
        ({"number": None}, "must be a number, not null"),
        ({"number": Decimal(0)}, "must be above 0"),
        ({"number": Decimal(1)}, "must be below 1"),
        ({"quantity": "many"}, "must be a number or a decimal string, not 'many'"),
        ({"quantity": [1] * 1000}, "must be a number or a decimal string, not an array"),
        ({"yes": "perhaps"}, "must be true or false, not 'perhaps'"),
        ({"at": "today"}, "must be a time with its offset, such as 2026-01-31T12:00:00Z, not 'today'"),
        ({"at": datetime(1969, 1, 1).astimezone()}, "must lie in the years 1970 to 2199"),
        ({"word": "c"}, "must be 'a' or 'b'"),
        ({"some": "x" * 99}, "must be an array, not a string"),
        ({"some": []}, "must not be empty"),
        ({"some": ["a", "b", "c"]}, "must hold at most 2 entries"),
        ({"by_name": {"a": 1, "b": 2}}, "must hold at most 1 entries"),
        ({"inner": 3}, "must be an object, not 3"),
        ({"inner": {}}, "is missing"),
        ({"inner": {"name": "x", "more": 1}}, "is not taken here"),
        ({"by_name": True}, "must be an object, not a boolean"),
        ({"by_name": {"a": {}}}, "must be a whole number, not an object"),
    ],
)
def test_it_says_what_was_expected(sent: dict[str, Any], words: str) -> None:
    assert said(**sent) == words
