"""The usage query against an oracle that shares no code with it: plain Python over the list of stored events.

The events are late, voided, corrected, of several customers and groups; the windows lie around moved clocks, the ends
of months and a leap day. Each event is recorded on a meter of each aggregation, and each query asks all of them.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from redis import Redis
from sqlalchemy import Engine, Text, cast, select, text
from sqlalchemy.orm import Session

from metering.clock import to_micros
from metering.errors import Conflict, InvalidUsage
from metering.intake.event import UsageEvent
from metering.models import Customer, Event, MeterRow
from metering.store.usage_query import UsageQuery, query_usage
from metering.store.void import correct, void
from tests.conftest import EMPTY
from tests.factories.meters import LEVELS, METERS
from tests.factories.meters import catalog as every_meter
from tests.factories.world import World

CATALOG = every_meter()
CUSTOMERS = ("acme", "bolt", "cork")
QUARTER, MINUTE, HOUR = timedelta(minutes=15), timedelta(minutes=1), timedelta(hours=1)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type]


# An instant at which something happens on the clock of a zone.
MOMENTS = [
    (utc(2026, 3, 29, 1), "Europe/Berlin"),
    (utc(2026, 10, 25, 1), "Europe/Berlin"),
    (utc(2026, 3, 8, 7), "America/New_York"),
    (utc(2026, 11, 1, 6), "America/New_York"),
    (utc(2026, 4, 4, 15), "Australia/Lord_Howe"),
    (utc(2026, 10, 3, 15, 30), "Australia/Lord_Howe"),
    (utc(2026, 12, 31, 18, 30), "Asia/Kolkata"),
    (utc(2028, 2, 28, 18, 15), "Asia/Kathmandu"),
    (utc(2028, 2, 29), "UTC"),
    (utc(2026, 5, 31, 22), "Europe/Berlin"),
]


@dataclass(frozen=True)
class Said:
    """What an event says; `after` is its distance from the moment that an example is about."""

    customer: str
    after: timedelta
    late: bool
    quantity: int
    outright: bool
    properties: dict[str, Any]
    fate: str


@dataclass(frozen=True)
class Asked:
    from_: timedelta | None
    to: timedelta | None
    size: Any
    zone: str | None
    customers: list[str] | None
    group_by: list[str]
    filters: dict[str, list[str]]


def around(hours: int) -> st.SearchStrategy[timedelta]:
    """Mostly on some grid, so that instants meet."""
    coarse = st.integers(-hours * 4, hours * 4).map(lambda number: number * QUARTER)
    fine = st.integers(-hours * 3_600 * 10**6, hours * 3_600 * 10**6).map(lambda number: timedelta(microseconds=number))
    return coarse | coarse | fine


texts = st.sampled_from([None, "a", "b", "", True, Decimal("1.50")])
said_strategy = st.builds(
    Said,
    customer=st.sampled_from(CUSTOMERS[:2]),
    after=around(40),
    late=st.booleans(),
    quantity=st.integers(-5, 9),
    outright=st.booleans(),
    properties=st.fixed_dictionaries(
        {
            "model": texts,
            "place": st.fixed_dictionaries({"region": st.sampled_from(["eu", "us", None])}),
            "colour": texts,
            "user": st.fixed_dictionaries({"id": st.sampled_from(["u", "1", 1, "2.5", Decimal("2.50"), 7])}),
        }
    ),
    fate=st.sampled_from(["kept"] * 5 + ["voided", "corrected"]),
)
asked_strategy = st.builds(
    Asked,
    from_=st.none() | around(50),
    to=st.none() | around(50),
    size=st.sampled_from([None, "MINUTE", "HOUR", "HOUR", "DAY", "DAY", "MONTH"]),
    zone=st.sampled_from([None, None, None, "Asia/Kolkata", "Asia/Kathmandu", "UTC", "Australia/Lord_Howe"]),
    customers=st.none() | st.lists(st.sampled_from([*CUSTOMERS, "nobody"]), max_size=3),
    group_by=st.lists(st.sampled_from(["model", "region", "colour", "subject", "customerId"]), max_size=3, unique=True),
    filters=st.dictionaries(
        st.sampled_from(["model", "region", "colour", "subject"]),
        st.lists(st.sampled_from(["a", "true", "1.50", "eu", "", "acme"]), min_size=1, max_size=3),
        max_size=1,
    ),
)


@settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking takes minutes and leaves it hardly smaller
)
@given(
    moment=st.sampled_from(MOMENTS),
    said=st.lists(said_strategy, min_size=1, max_size=14),
    asked=st.lists(asked_strategy, min_size=3, max_size=6),
    closes=st.booleans(),
)
def test_every_value_is_what_the_events_say(
    engine: Engine,
    session: Session,
    redis: Redis,
    moment: tuple[datetime, str],
    said: list[Said],
    asked: list[Asked],
    closes: bool,
) -> None:
    world = told(engine, session, redis, moment[0], said, closes)
    events = stored(session)
    for one in asked:
        for key in METERS:
            query = query_of(one, key, *moment)
            if query is not None:
                assert answers(world, query) == expected(query, events[key], world.now), (key, one)


# -- given -----------------------------------------------------------------------------------------------------------


def told(
    engine: Engine,
    session: Session,
    redis: Redis,
    moment: datetime,
    said: Sequence[Said],
    closes: bool,
) -> World:
    """A world in which all this was said: what is not late before the moment, the rest after it."""
    session.rollback()
    with engine.begin() as connection:
        connection.execute(text(EMPTY))
    redis.flushdb()
    session.expunge_all()
    world = World(session=session, redis=redis, catalog=CATALOG, now=moment - timedelta(hours=45))
    world.initialise()
    for key in CUSTOMERS:
        world.customer(key)
    recorded: dict[tuple[int, str], bool] = {}
    for late in (False, True):
        world.now = moment + timedelta(hours=41 if late else 0)
        if late and closes:
            world.close_periods()
        for number, one in enumerate(said):
            if late or (not one.late and one.after <= timedelta(0)):
                record(world, moment, number, one, recorded)
        world.drain()
        if closes:
            world.close_hours()
    for number, one in enumerate(said):
        for key in METERS:
            if recorded.get((number, key)) and one.fate != "kept":
                change(world, one, f"{number}:{key}", key)
    world.drain()
    return world


def record(world: World, moment: datetime, number: int, one: Said, recorded: dict[tuple[int, str], bool]) -> None:
    for key in METERS:
        if (number, key) in recorded:
            continue
        try:
            world.record(event_of(world, moment, number, one, key))
            recorded[number, key] = True
        except InvalidUsage:
            recorded[number, key] = False  # a level below zero


def event_of(world: World, moment: datetime, number: int, one: Said, key: str) -> UsageEvent:
    level = key in LEVELS
    quantity = abs(one.quantity) if key == "sum" or (level and one.outright) else one.quantity
    return world.event(
        one.customer,
        key,
        quantity,
        id=f"{number}:{key}",
        time=to_micros(min(moment + one.after, world.now)),
        outright=level and one.outright,
        properties=one.properties,
    )


def change(world: World, one: Said, id: str, key: str) -> None:
    customer, session = world.find(one.customer), world.session
    try:
        if one.fate == "voided" or key in ("unique_count", "count"):
            void(session, world.intake, customer, "test", id, reason="", actor="", now=world.now)
        else:
            correct(session, world.intake, world.catalog, customer, "test", id, 3, reason="", actor="", now=world.now)
        session.commit()
    except Conflict:
        assert key in LEVELS  # it would fall below zero
        session.rollback()


@dataclass(frozen=True)
class Fact:
    """A stored event that counts; `value` is in the meter's unit."""

    customer: str
    rank: int
    time: datetime
    counted_at: datetime
    place: tuple[int, int]
    op: str
    value: Fraction
    properties: Mapping[str, Any]


def stored(session: Session) -> dict[str, list[Fact]]:
    rows = session.execute(
        select(Event, Customer, MeterRow, cast(Event.properties, Text).label("exact"))
        .join(Customer, Customer.id == Event.customer_id)
        .join(MeterRow, MeterRow.id == Event.meter_id)
        .where(Event.voided_at.is_(None))
    )
    facts: dict[str, list[Fact]] = {key: [] for key in METERS}
    for event, customer, meter, properties in rows:
        value = Fraction(event.units, 10**meter.scale)
        place = (event.position, event.item)
        exact = json.loads(properties, parse_float=Decimal)
        fact = Fact(customer.key, customer.id, event.time, event.counted_at, place, event.op, value, exact)
        facts[meter.key].append(fact)
    session.commit()
    return facts


# -- when ------------------------------------------------------------------------------------------------------------


def query_of(one: Asked, key: str, moment: datetime, zone: str) -> UsageQuery | None:
    """The question put to one meter; None where it is none."""
    from_ = None if one.from_ is None else moment + one.from_
    to = None if one.to is None else moment + one.to
    if from_ is not None and to is not None and from_ >= to:
        from_, to = to, from_ + MINUTE
    if from_ is not None and to is None and from_ >= moment + timedelta(hours=41):
        return None
    if one.size == "MINUTE":  # the oracle is slow
        from_ = from_ or (to or moment) - 2 * HOUR
        to = min(to or from_ + 2 * HOUR, from_ + 2 * HOUR)
    specials = ("subject", "customerId")
    return UsageQuery(
        CATALOG.meters[key],
        from_=from_,
        to=to,
        window_size=one.size,
        timezone=ZoneInfo(one.zone or zone),
        customers=one.customers,
        group_by=[name for name in one.group_by if key not in LEVELS or name in specials],
        filters={name: values for name, values in one.filters.items() if key not in LEVELS or name in specials},
    )


Place = tuple[datetime, datetime, str | None, str | None, tuple[tuple[str, str | None], ...]]


def answers(world: World, query: UsageQuery) -> dict[Place, Decimal]:
    rows = query_usage(world.session, query, now=world.now)
    world.session.commit()
    found = {
        (row.window_start, row.window_end, row.subject, row.customer_id, tuple(row.group_by.items())): row.value
        for row in rows
    }
    assert len(found) == len(rows)
    return found


# -- then ------------------------------------------------------------------------------------------------------------


def expected(query: UsageQuery, facts: Sequence[Fact], now: datetime) -> dict[Place, Decimal]:
    level = query.meter.kind == "level"
    facts = [fact for fact in facts if is_of_a_wanted_customer(query, fact)]
    first = min((fact.counted_at if level else fact.time for fact in facts), default=None)
    from_, to = query.from_ or first, query.to or now
    if from_ is None or (query.from_ is None and from_ >= to):
        return {}
    if query.window_size is not None:  # an end that is left open is that of a whole window
        if query.from_ is None:
            from_ = whole_window(query, from_)[0]
        if query.to is None and not level:
            to = whole_window(query, now)[1]
    if from_ >= to:
        return {}
    if level:
        return level_values(query, facts, from_, to, now)
    return usage_values(query, [fact for fact in facts if passes_filters(query, fact)], from_, to)


def is_of_a_wanted_customer(query: UsageQuery, fact: Fact) -> bool:
    asked = [query.customers, query.filters.get("subject")]
    return all(keys is None or fact.customer in keys for keys in asked)


def passes_filters(query: UsageQuery, fact: Fact) -> bool:
    filters = {name: values for name, values in query.filters.items() if name != "subject"}
    return all((property_of(fact, name) or "") in values for name, values in filters.items())


def property_of(fact: Fact, name: str) -> str | None:
    value = fact.properties["place"]["region"] if name == "region" else fact.properties[name]
    if isinstance(value, bool):
        return str(value).lower()
    return None if value in (None, "") else str(value)


def group_of(query: UsageQuery, fact: Fact) -> tuple[str | None, str | None, tuple[tuple[str, str | None], ...]]:
    return (
        fact.customer if "subject" in query.group_by else None,
        fact.customer if "customerId" in query.group_by else None,
        tuple((n, property_of(fact, n)) for n in query.group_by if n not in ("subject", "customerId")),
    )


def usage_values(query: UsageQuery, facts: Sequence[Fact], from_: datetime, to: datetime) -> dict[Place, Decimal]:
    window = windows(query, from_, to)
    groups: dict[Place, list[Fact]] = {}
    for fact in facts:
        if from_ <= fact.time < to:
            groups.setdefault((*window(fact.time), *group_of(query, fact)), []).append(fact)
    return {place: written(query, VALUES[query.meter.aggregation](group)) for place, group in groups.items()}


def unique(facts: Sequence[Fact]) -> Fraction:
    values = [fact.properties["user"]["id"] for fact in facts]
    return Fraction(len({value if isinstance(value, str) else f"{Decimal(value).normalize():f}" for value in values}))


VALUES: dict[str, Callable[[Sequence[Fact]], Fraction]] = {
    "sum": lambda facts: sum((fact.value for fact in facts), Fraction(0)),
    "count": lambda facts: Fraction(len(facts)),
    "max": lambda facts: max(fact.value for fact in facts),
    "min": lambda facts: min(fact.value for fact in facts),
    "avg": lambda facts: sum((fact.value for fact in facts), Fraction(0)) / len(facts),
    "latest": lambda facts: max(facts, key=lambda fact: (fact.time, fact.rank, fact.place)).value,
    "unique_count": unique,
}


def level_values(
    query: UsageQuery, facts: Sequence[Fact], from_: datetime, to: datetime, now: datetime
) -> dict[Place, Decimal]:
    by_customer = bool(query.group_by)
    entities: dict[Any, list[Fact]] = {}
    for fact in sorted(facts, key=lambda fact: (fact.counted_at, fact.rank, fact.place)):
        entities.setdefault(group_of(query, fact) if by_customer else (None, None, ()), []).append(fact)
    values = {}
    for entity, changes in entities.items():
        for starts, ends in every_window(query, from_, to):
            until = min(ends, now)
            if starts < now and changes[0].counted_at < until:
                values[starts, ends, *entity] = written(query, level_value(query, changes, starts, until))
    return values


def level_value(query: UsageQuery, changes: Sequence[Fact], starts: datetime, ends: datetime) -> Fraction:
    levels: dict[str, Fraction] = {}
    total, peak, weighed, moment = Fraction(0), Fraction(0), Fraction(0), starts
    for change in changes:
        if change.counted_at >= ends:
            break
        if change.counted_at >= starts:
            peak = max(peak, total)
            weighed += total * Fraction((change.counted_at - moment) / timedelta(microseconds=1))
            moment = change.counted_at
        before = levels.get(change.customer, Fraction(0))
        levels[change.customer] = change.value if change.op == "set" else before + change.value
        total = sum((max(level, Fraction(0)) for level in levels.values()), Fraction(0))
    peak = max(peak, total)
    weighed += total * Fraction((ends - moment) / timedelta(microseconds=1))
    return {
        "latest": total,
        "max": peak,
        "time_weighted": weighed / Fraction((ends - starts) / timedelta(microseconds=1)),
    }[query.meter.aggregation]


def written(query: UsageQuery, value: Fraction) -> Decimal:
    """With the digits that an answer has: those of the meter, six more for a mean, half to even."""
    places = query.meter.scale + (6 if query.meter.aggregation in ("avg", "time_weighted") else 0)
    return Decimal(round(value * 10**places)).scaleb(-places)


def whole_window(query: UsageQuery, moment: datetime) -> tuple[datetime, datetime]:
    around = timedelta(days=70)
    return windows(query, moment - around, moment + around)(moment)


def every_window(query: UsageQuery, from_: datetime, to: datetime) -> Iterator[tuple[datetime, datetime]]:
    window = windows(query, from_, to)
    while from_ < to:
        starts, ends = window(from_)
        yield starts, ends
        from_ = ends


def windows(query: UsageQuery, from_: datetime, to: datetime) -> Callable[[datetime], tuple[datetime, datetime]]:
    """The window of an instant: as far as the clock shows the same minute, hour, date or month, within the range."""
    step = MINUTE if query.window_size == "MINUTE" else QUARTER  # no clock is moved within a quarter of an hour
    known: dict[object, tuple[datetime, datetime]] = {}

    def shown(moment: datetime) -> object:
        clock = moment.astimezone(query.timezone)
        return {
            "MINUTE": (clock.date(), clock.hour, clock.minute, clock.utcoffset()),
            "HOUR": (clock.date(), clock.hour, clock.utcoffset()),
            "DAY": clock.date(),
            "MONTH": (clock.year, clock.month),
            None: None,
        }[query.window_size]

    def window(moment: datetime) -> tuple[datetime, datetime]:
        what = shown(moment)
        if what not in known:
            starts = moment - (moment - datetime(2000, 1, 1, tzinfo=UTC)) % step
            ends = starts + step
            while starts > from_ and shown(starts - step) == what:
                starts -= step
            while ends < to and shown(ends) == what:
                ends += step
            known[what] = (max(starts, from_), min(ends, to))
        return known[what]

    return window
