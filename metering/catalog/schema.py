"""The catalog's nouns. All are frozen; a value that passed validation can be relied on everywhere else.

A meter's quantities live in three forms: what people write (`Decimal`, in the meter's unit), the scaled whole number
that counters and tables hold (`units`, 10^-scale of the meter's unit), and the charged units of its price.
"""

import re
from collections.abc import Mapping
from decimal import Decimal, Inexact
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from metering.catalog.aggregations import AGGREGATIONS, EXACT, Aggregation, AggregationName, to_quantity
from metering.catalog.quantities import exact, parse_size
from metering.errors import BadQuantity, UnknownMeter

MAX_MAGNITUDE = 16
MAX_UNITS = 2**53 - 1
"""The largest count: Redis' Lua and JSON readers hold numbers as doubles, which are exact up to here."""

RATE_SECONDS = {"second": 1, "minute": 60, "hour": 3600}
RATE = re.compile(f"([1-9][0-9]*)/({'|'.join(RATE_SECONDS)})")

MAX_CALLS_PER_SECOND = 10_000
"""Beyond it an interval of whole microseconds is no longer the rate that was written, within one percent."""

MAX_BURST_MICROS = 31 * 24 * 3600 * 1_000_000

Key = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
JsonPath = Annotated[str, Field(pattern=r"^\$(\.[A-Za-z_][A-Za-z0-9_-]*)+$")]
Amount = Annotated[Decimal, BeforeValidator(exact), Field(ge=0)]
LimitMode = Literal["hard", "soft", "none"]

RESERVED_DIMENSION = "subject"
"""Groups usage by customer in a query, so no dimension of a meter may have this name."""


class Noun(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def __copy__(self) -> Self:
        """Without what was computed from the fields: a copy is made to change them."""
        copied = super().__copy__()
        for computed in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[computed]
        return copied


class Meter(Noun):
    """What is counted. `event_type` and `value_property` say which events it reads and where their quantity is."""

    key: Key
    name: str = Field(min_length=1, max_length=250)
    description: str = Field(default="", max_length=1000)
    unit: str = Field(min_length=1, max_length=60)
    aggregation: AggregationName
    kind: Literal["usage", "level"] = "usage"
    bills_as: Literal["time_weighted", "maximum"] | None = None
    event_type: str = Field(default="", max_length=100)
    value_property: JsonPath = "$.value"
    group_by: dict[Key, JsonPath] = Field(default_factory=dict)
    scale: int = Field(default=0, ge=0, le=9)
    display: Literal["number", "bytes", "seconds"] = "number"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.is_level and self.bills_as is None:
            raise ValueError('a meter of kind "level" says how it bills: bills_as = "time_weighted" or "maximum"')
        if self.is_level and not self.aggregates.of_levels:
            raise ValueError(f'a meter of kind "level" cannot be aggregated as "{self.aggregation}"')
        if not self.is_level and (self.bills_as is not None or not self.aggregates.of_usage):
            raise ValueError('bills_as and "time_weighted" are for meters of kind "level"')
        if self.aggregates.counts_events and self.scale:
            raise ValueError(f'"{self.aggregation}" counts events, which have no decimal places: scale must be 0')
        if RESERVED_DIMENSION in self.group_by:
            raise ValueError(f'group_by: "{RESERVED_DIMENSION}" always means the customer')
        return self

    @cached_property
    def aggregates(self) -> Aggregation:
        """What is to be known of how it aggregates."""
        return AGGREGATIONS[self.aggregation]

    @cached_property
    def is_level(self) -> bool:
        return self.kind == "level"

    @cached_property
    def counts_live(self) -> bool:
        """Whether the intake keeps a live counter of it, so that a limit can hold it."""
        return self.is_level or self.aggregates.summed

    @property
    def observes(self) -> bool:
        """Whether its values are looked at one by one, not added up: a temperature, a latency, who came by."""
        return not self.counts_live

    def to_units(self, value: object, *, signed: bool = False) -> int:
        """`value`, in the meter's unit, as the scaled whole number that is counted.

        Raises:
            BadQuantity: not a finite number, negative (unless `signed`), more than `scale` decimal places, or
                larger than 2^53 - 1 scaled units.
        """
        if type(value) is int and not self.scale and 0 <= value <= MAX_UNITS:
            return value  # what nearly all calls count
        if type(value) is Decimal and not self.scale and value.is_finite() and value.adjusted() <= MAX_MAGNITUDE:
            units = int(value)
            if units == value and 0 <= units <= MAX_UNITS:
                return units
        try:
            number = exact(value)
            if number and number.adjusted() + self.scale > MAX_MAGNITUDE:  # before anything is made of so many digits
                raise self._bad(value, f"is larger than {self.to_quantity(MAX_UNITS)}")
            scaled = EXACT.scaleb(number, self.scale)
        except Inexact:
            raise self._bad(value, self._too_precise) from None
        except (ValueError, ArithmeticError):
            raise self._bad(value, "is not a finite number") from None
        if scaled < 0 and not signed:
            raise self._bad(value, "is negative")
        if abs(scaled) > MAX_UNITS:
            raise self._bad(value, f"is larger than {self.to_quantity(MAX_UNITS)}")
        if scaled != scaled.to_integral_value():
            raise self._bad(value, self._too_precise)
        return int(scaled)

    @property
    def _too_precise(self) -> str:
        return f"has more than {self.scale} decimal places" if self.scale else "is no whole number"

    def _bad(self, value: object, why: str) -> BadQuantity:
        return BadQuantity(f"{self.key}: the quantity {value!r} {why}", meter=self.key, reason=why)

    def to_quantity(self, units: int | Decimal) -> Decimal:
        """Scaled units back as a decimal in the meter's unit."""
        return to_quantity(units, self.scale)


class Tier(Noun):
    """One step of a tiered price: `up_to` charged units (None: the last one), at `amount` each, plus `flat`."""

    up_to: Amount | None = None
    amount: Amount = Decimal(0)
    flat: Amount = Decimal(0)


class Price(Noun):
    """What a meter costs. One charged unit holds `size` of the meter's units (unit-seconds for time-weighted)."""

    model: Literal["per_unit", "package", "graduated", "volume"] = "per_unit"
    unit: str
    size: Annotated[Decimal, BeforeValidator(exact), Field(gt=0)] = Decimal(1)
    amount: Amount = Decimal(0)
    included: Amount = Decimal(0)
    tiers: tuple[Tier, ...] = ()

    @model_validator(mode="after")
    def _tiers_fit(self) -> Self:
        tiered = self.model in ("graduated", "volume")
        if tiered != bool(self.tiers):
            raise ValueError(f'tiers belong to "graduated" and "volume" prices, this one is "{self.model}"')
        steps = [tier.up_to for tier in self.tiers[:-1]]
        bounds = [step for step in steps if step is not None]
        if len(bounds) != len(steps) or bounds != sorted(set(bounds)) or (tiered and self.tiers[-1].up_to is not None):
            raise ValueError("tiers rise by up_to, and only the last one goes without")
        return self


class Limit(Noun):
    """How much of a meter a plan allows, in the meter's unit. A soft limit is shown and alerted, never refused."""

    value: Annotated[Decimal, Field(ge=0)]
    mode: Literal["hard", "soft"] = "hard"

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, data: Any) -> Any:
        """A bare number or size stands for a hard limit."""
        return data if isinstance(data, dict) else {"value": data}

    @field_validator("value", mode="before")
    @classmethod
    def _sizes(cls, value: object) -> Decimal:
        return parse_size(value) if isinstance(value, str) else exact(value)


class Rate(Noun):
    """How fast calls may come: `rate` ("50/second") in the long run, and `burst` of them at once.

    Kept by GCRA, https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm: a call comes free each `interval_micros`.
    """

    rate: str
    burst: int = Field(strict=True, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, data: Any) -> Any:
        """A bare rate stands for one whose calls may all come at once."""
        words = data if isinstance(data, dict) else {"rate": data}
        match = RATE.fullmatch(words["rate"]) if isinstance(words.get("rate"), str) else None
        if match is None:
            raise ValueError(f'{words.get("rate")!r} is no rate: write "50/second", "600/minute" or "1000/hour"')
        return {"burst": int(match[1]), **words}

    @model_validator(mode="after")
    def _can_be_kept(self) -> Self:
        if self.count > MAX_CALLS_PER_SECOND * self.seconds:
            raise ValueError(f"{self.rate!r} is more than {MAX_CALLS_PER_SECOND} a second")
        if self.burst * self.interval_micros > MAX_BURST_MICROS:
            raise ValueError(f"a burst of {self.burst} at {self.rate!r} is more than comes free in 31 days")
        return self

    @property
    def count(self) -> int:
        return int(self.rate.partition("/")[0])

    @property
    def seconds(self) -> int:
        return RATE_SECONDS[self.rate.partition("/")[2]]

    @property
    def interval_micros(self) -> int:
        """Rounded up to a whole number, so that no more than `rate` is let in."""
        return -(-self.seconds * 1_000_000 // self.count)


class Rates(Noun):
    """The rates of a plan: over all calls of a customer, and over those of each of its API keys."""

    customer: Rate | None = None
    key: Rate | None = None


class Plan(Noun):
    key: Key
    name: str = Field(min_length=1, max_length=250)
    base_fee: Amount = Decimal(0)
    limits: dict[Key, Limit] = Field(default_factory=dict)
    rate: Rates = Rates()
    prices: dict[Key, Price] = Field(default_factory=dict)


def _without(more: Mapping[str, Meter], known: Mapping[str, Meter]) -> dict[str, Meter]:
    return {key: meter for key, meter in more.items() if key not in known}


class Catalog(Noun):
    """Everything that is sold, checked as a whole."""

    version: str = Field(min_length=1)
    currency: str = Field(pattern=r"^[A-Z]{3}$")
    meters: dict[Key, Meter] = Field(min_length=1)
    prices: dict[Key, Price] = Field(default_factory=dict)
    plans: dict[Key, Plan] = Field(min_length=1)
    alert_percents: tuple[Annotated[int, Field(gt=0, le=1000)], ...] = (80, 100)
    _made_at_run_time: frozenset[str] = PrivateAttr(default=frozenset())

    @property
    def made_at_run_time(self) -> frozenset[str]:
        """The keys of the meters that no catalog file names."""
        return self._made_at_run_time

    def meter(self, key: str) -> Meter:
        """Raises UnknownMeter."""
        try:
            return self.meters[key]
        except KeyError:
            known = ", ".join(self.meters)
            raise UnknownMeter(f"there is no meter {key!r}; there are: {known}", meter=key) from None

    def with_meters(self, more: Mapping[str, Meter]) -> Self:
        """This catalog with meters made at run time, which no plan limits or prices; its own go before them."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        further = _without(more, self.meters)
        catalog = self.model_construct(**{**fields, "meters": {**self.meters, **further}})
        catalog._made_at_run_time = self.made_at_run_time | further.keys()
        return catalog

    @cached_property
    def meters_by_event_type(self) -> dict[str, tuple[Meter, ...]]:
        found: dict[str, tuple[Meter, ...]] = {}
        for meter in self.meters.values():
            found[meter.event_type] = (*found.get(meter.event_type, ()), meter)
        return found

    def price(self, plan_key: str, meter_key: str) -> Price | None:
        """The price of a meter in a plan: the plan's own, else the catalog's, else None (it costs nothing)."""
        return self.plans[plan_key].prices.get(meter_key) or self.prices.get(meter_key)

    def limit_units(self, plan_key: str, meter: Meter) -> tuple[int | None, LimitMode]:
        """The limit of a meter in a plan as scaled units and its mode: (None, "none") where there is none."""
        limit = self.plans[plan_key].limits.get(meter.key)
        return (None, "none") if limit is None else (meter.to_units(limit.value), limit.mode)
