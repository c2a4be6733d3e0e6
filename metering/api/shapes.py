"""The types that what is asked and what is answered are made of: exact numbers, money, instants, names."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from metering.catalog.quantities import exact
from metering.problems import to_json

Number = Annotated[Decimal, WithJsonSchema({"type": "number"})]
"""An exact decimal, written as a JSON number with all its digits."""

Money = Annotated[str, WithJsonSchema({"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?$"})]
"""An amount of money as a decimal string, in the currency's major unit."""


def _quantity(value: object) -> Decimal:
    try:
        return exact(value)
    except ValueError:
        raise PydanticCustomError("quantity", "must be a number or a decimal string") from None


Quantity = Annotated[Decimal, BeforeValidator(_quantity), WithJsonSchema({"type": ["number", "string"]})]
"""A quantity that a caller hands in: a JSON number or a decimal string."""

Instant = Annotated[datetime, WithJsonSchema({"type": "string", "format": "date-time"})]


def _in_our_time(moment: datetime) -> datetime:
    if not 1970 <= moment.year < 2200:
        raise ValueError("must lie in the years 1970 to 2199")
    return moment


StatedInstant = Annotated[AwareDatetime, Field(strict=False), AfterValidator(_in_our_time)]
"""An instant that a caller hands in: RFC 3339, with its offset."""


def _printable(text: str) -> str:
    if not text.isprintable() or not text.strip():
        raise ValueError("must hold printable characters only, and not just blanks")
    return text.strip()


Line = Annotated[str, Field(min_length=1, max_length=250), AfterValidator(_printable)]
"""A line of text that a caller hands in, such as a name."""

EXAMPLE_CUSTOMER = "demo"
"""The customer that `make run` makes: the examples of all operations are about it."""

CustomerKey = Annotated[str, Field(min_length=1, max_length=64, examples=[EXAMPLE_CUSTOMER])]


class Answer(BaseModel):
    """What an operation answers with, field by field."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CamelAnswer(Answer):
    """An answer in OpenMeter's spelling."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


Item = TypeVar("Item")


class Page(Answer, Generic[Item]):
    """Some of a list. `next_cursor`, sent as `cursor`, leads to those that follow; null at the end."""

    items: list[Item]
    next_cursor: str | None = None


class PeriodSpan(Answer):
    """A billing period: from `start` up to, not including, `end`."""

    start: Instant
    end: Instant


def dump(answer: Any) -> bytes:
    """An answer, a list of them or a plain value as JSON."""
    return to_json(_plain(answer))


def _plain(answer: Any) -> Any:
    if isinstance(answer, BaseModel):
        return answer.model_dump(by_alias=True)
    return [_plain(one) for one in answer] if isinstance(answer, list) else answer
