"""What the usage page shows: the series of a chart, the same as a table, and what they come to. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from metering import humanize, quantities
from metering.catalog import Meter
from metering.dashboard.usage_choice import Choice
from metering.store.usage_query import KEY_ID, UsageRow
from metering.store.windows import WindowSize

MOST_SERIES = 6
OTHER = "Other"
NONE = "(none)"

Values = tuple[Decimal | None, ...]


@dataclass(frozen=True, slots=True)
class Series:
    """One group's values by window; None where nothing is known. `number` picks its colour; 0 is the faded one."""

    label: str
    number: int
    values: Values
    total: str = ""


@dataclass(frozen=True, slots=True)
class TableRow:
    """A window: `cells` by series, `share` its part of the highest, in percent."""

    label: str
    starts_at: datetime
    cells: tuple[str, ...]
    total: str
    total_exact: str
    share: Decimal


@dataclass(frozen=True, slots=True)
class Fact:
    label: str
    value: str
    hint: str = ""
    exact: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """What the script draws, as JSON: plain numbers, beside the texts that people read."""

    kind: str
    stacked: bool
    labels: tuple[str, ...]
    series: tuple[dict[str, object], ...]

    def as_json(self) -> dict[str, object]:
        return {"kind": self.kind, "stacked": self.stacked, "labels": self.labels, "series": self.series}


@dataclass(frozen=True, slots=True)
class History:
    """The usage of one meter over a span of time."""

    title: str
    unit: str
    chart: Chart
    legend: tuple[Series, ...]
    rows: tuple[TableRow, ...]
    facts: tuple[Fact, ...]
    empty: bool


def series_of(
    meter: Meter, rows: Sequence[UsageRow], starts: Sequence[datetime], group: str, names: Mapping[str, str]
) -> list[Series]:
    """A series for each group, those with the most first, the rest of them as one where that can be added up.

    `names` are what values of the group are called, where that is something else than the value.
    """
    found: dict[str, dict[datetime, Decimal]] = {}
    for row in rows:
        value = row.group_by.get(group) if group else None
        label = names.get(value, value) if value else (NONE if group else meter.name)
        found.setdefault(label, {})[row.window_start] = row.value
    ranked = sorted(found, key=lambda label: (-_weight(meter, found[label].values()), label))
    shown, rest = ranked[:MOST_SERIES], ranked[MOST_SERIES:]
    series = [
        _series(meter, label, place + 1, tuple(_value(meter, found[label].get(start)) for start in starts))
        for place, label in enumerate(shown)
    ]
    if rest and meter.counts_live and not meter.is_level:
        others = tuple(sum((found[label].get(start, Decimal(0)) for label in rest), Decimal(0)) for start in starts)
        series.append(_series(meter, OTHER, MOST_SERIES + 1, others))
    return series or [_series(meter, meter.name, 1, tuple(_value(meter, None) for _ in starts))]


def _value(meter: Meter, value: Decimal | None) -> Decimal | None:
    """Without events a sum is nothing; a mean, or a level that nobody set yet, is unknown."""
    return Decimal(0) if value is None and meter.counts_live and not meter.is_level else value


def _weight(meter: Meter, values: Collection[Decimal]) -> Decimal:
    return sum(values, Decimal(0)) if meter.counts_live else max(values)


def _series(meter: Meter, label: str, number: int, values: Values) -> Series:
    known = [value for value in values if value is not None]
    total = quantities.short(meter, _summary(meter, known)) if known else "—"
    return Series(label, number, values, total)


def _summary(meter: Meter, known: Sequence[Decimal]) -> Decimal:
    """What a row of values comes to: their sum, of a level the last one, of observations the highest."""
    if not known:
        return Decimal(0)
    if meter.is_level:
        return known[-1]
    return sum(known, Decimal(0)) if meter.counts_live else max(known)


def history(
    choice: Choice,
    series: Sequence[Series],
    before: Series | None,
    starts: Sequence[datetime],
    where: ZoneInfo,
) -> History:
    meter = choice.meter
    labels = tuple(label(start, choice.window, where) for start in starts)
    drawn = (*series, before) if before else tuple(series)
    totals = [_of_window(meter, [one.values[place] for one in series]) for place in range(len(starts))]
    return History(
        title=meter.name,
        unit=meter.unit,
        chart=Chart(
            kind="line" if meter.is_level or not meter.counts_live else "bar",
            stacked=meter.counts_live and not meter.is_level and len(series) > 1,
            labels=labels,
            series=tuple(_drawn(meter, one) for one in drawn),
        ),
        legend=drawn,
        rows=tuple(reversed(_table(meter, series, totals, starts, labels))),
        facts=tuple(_facts(choice, totals, before, labels)),
        empty=not any(totals),
    )


def label(start: datetime, window: WindowSize, where: ZoneInfo) -> str:
    local = start.astimezone(where)
    if window == "HOUR":
        return f"{local:%b} {local.day}, {local:%H:%M}"
    return f"{local:%b %Y}" if window == "MONTH" else f"{local:%b} {local.day}"


def _of_window(meter: Meter, values: Sequence[Decimal | None]) -> Decimal | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return sum(known, Decimal(0)) if meter.counts_live else max(known)


def _drawn(meter: Meter, series: Series) -> dict[str, object]:
    texts = [None if value is None else quantities.in_words(meter, value) for value in series.values]
    # A chart is drawn to the pixel: a float is what its library takes, and what people read stands beside it.
    numbers = [None if value is None else float(value) for value in series.values]
    return {"label": series.label, "number": series.number, "values": numbers, "texts": texts}


def _table(
    meter: Meter,
    series: Sequence[Series],
    totals: Sequence[Decimal | None],
    starts: Sequence[datetime],
    labels: Sequence[str],
) -> list[TableRow]:
    most = max((total for total in totals if total is not None), default=Decimal(0))

    def text(value: Decimal | None) -> str:
        return "—" if value is None else quantities.short(meter, value)

    return [
        TableRow(
            label=labels[place],
            starts_at=start,
            cells=tuple(text(one.values[place]) for one in series) if len(series) > 1 else (),
            total=text(totals[place]),
            total_exact="" if totals[place] is None else quantities.exact(meter, totals[place] or Decimal(0)),
            share=max(totals[place] or Decimal(0), Decimal(0)) * 100 / most if most > 0 else Decimal(0),
        )
        for place, start in enumerate(starts)
    ]


def _facts(
    choice: Choice, totals: Sequence[Decimal | None], before: Series | None, labels: Sequence[str]
) -> list[Fact]:
    meter, known = choice.meter, [total for total in totals if total is not None]
    whole = _summary(meter, known)
    name = "Now" if meter.is_level else "Total" if meter.counts_live else "Highest"
    facts = [
        Fact(name, quantities.short(meter, whole), quantities.unit_beside(meter, whole), quantities.exact(meter, whole))
    ]
    if any(known):
        most = max(known)
        facts.append(Fact("Highest", quantities.short(meter, most), labels[totals.index(most)]))
    if known and meter.counts_live and not meter.is_level:
        mean = (whole / len(known)).quantize(Decimal(1) if meter.display != "number" else Decimal("0.1"))
        facts.append(Fact(f"Mean a {choice.window.lower()}", quantities.short(meter, mean)))
    if before is not None:
        earlier = [value for value in before.values if value is not None]
        facts.append(_compared(meter, whole, _summary(meter, earlier)))
    return facts


def _compared(meter: Meter, now: Decimal, then: Decimal) -> Fact:
    if not then:
        return Fact("Before", quantities.short(meter, then))
    change = (now - then) * 100 / then
    sign = "+" if change > 0 else ""
    return Fact("Before", quantities.short(meter, then), f"{sign}{humanize.count(round(change))}%")


def group_label(group: str) -> str:
    return "API key" if group == KEY_ID else group.replace("_", " ").capitalize()
