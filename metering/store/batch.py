"""Storing a batch of rows: events, rollups, totals, levels and corrections, in the caller's transaction.

Always holds: a row is stored once, whatever is handed in twice; a row that PostgreSQL refuses is set aside with its
reason and never holds up the others; the live counters' difference to what was stored is written down as corrections.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import insert, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from metering.clock import from_micros
from metering.models import Correction, SetAside
from metering.store.sql import statement
from metering.store.stream import Fault, Row

ARRAY_COLUMNS = (
    *("partition", "position", "item", "digest", "payload", "customer", "meter", "op", "units", "time", "admitted"),
    *("source", "event_id", "key_id", "grp", "properties", "period", "effect", "overshoot"),
)
TEXT_COLUMNS = frozenset({"customer", "meter", "source", "event_id", "grp", "properties"})


@dataclass(frozen=True, slots=True)
class TouchedTotal:
    """A period's total that a batch has raised to `units`."""

    customer_id: int
    meter_id: int
    period_id: int
    units: int


@dataclass(frozen=True, slots=True)
class TouchedLevel:
    customer_id: int
    meter_id: int
    level: int


@dataclass(slots=True)
class Stored:
    """What became of a batch."""

    fresh: int = 0
    corrections: int = 0
    faults: list[Fault] = field(default_factory=list)
    totals: list[TouchedTotal] = field(default_factory=list)
    levels: list[TouchedLevel] = field(default_factory=list)

    def add(self, other: "Stored") -> None:
        self.fresh += other.fresh
        self.corrections += other.corrections
        self.faults += other.faults
        self.totals += other.totals
        self.levels += other.levels


def store_rows(session: Session, rows: Sequence[Row], *, correct: bool = True) -> Stored:
    """Store `rows`; `correct=False` when the live counters are about to be computed anew anyway."""
    if not rows:
        return Stored()
    try:
        with session.begin_nested():
            return _store(session, rows, correct)
    except DBAPIError as error:
        if not _is_poison(error):
            raise
        if len(rows) == 1:
            return _refused(session, rows[0], error, correct)
    # One of them is poisonous: halving finds it without holding up the rest.
    middle = len(rows) // 2
    stored = store_rows(session, rows[:middle], correct=correct)
    stored.add(store_rows(session, rows[middle:], correct=correct))
    return stored


def set_aside(session: Session, faults: Iterable[Fault]) -> None:
    """Keep messages that could not become events, whole and with the reason."""
    values = [
        {
            "partition": fault.partition,
            "position": fault.position,
            "item": fault.item,
            "customer": fault.customer,
            "decision": fault.decision.decode("utf-8", "replace"),
            "message": fault.message,
            "reason": fault.reason,
            "detail": fault.detail,
        }
        for fault in faults
    ]
    if values:
        session.execute(insert(SetAside), values)


def _store(session: Session, rows: Sequence[Row], correct: bool) -> Stored:
    answer = session.execute(statement("store_batch"), {**row_arrays(rows), "correct": correct}).one()
    stored = Stored(fresh=answer.fresh, corrections=answer.corrections)
    stored.totals = [TouchedTotal(*total) for total in answer.totals]
    if answer.problems:
        by_place = {(row.partition, row.position, row.item): row for row in rows}
        for partition, place, item, reason in answer.problems:
            stored.faults.append(_fault(by_place[partition, place, item], reason, ""))
    if answer.levels:
        _store_levels(session, answer.levels, stored, correct)
    return stored


def _store_levels(session: Session, touched: Sequence[Sequence[Any]], stored: Stored, correct: bool) -> None:
    """Fold the levels that the batch touched and correct their live counters by what the script could not know."""
    before = fold_levels(session, [(key[1], key[2], key[5]) for key in touched if key[5] is not None])
    corrections = []
    for partition, customer_id, meter_id, customer, meter, _, effect in touched:
        change = before.get((customer_id, meter_id))
        rise = change[1] - change[0] if change else 0
        if change:
            stored.levels.append(TouchedLevel(customer_id, meter_id, change[1]))
        if rise != effect:
            corrections.append(
                {
                    "partition": partition,
                    "customer": customer,
                    "meter": meter,
                    "period_id": None,
                    "units": rise - int(effect),
                }
            )
    if corrections and correct:
        session.execute(insert(Correction), corrections)
        stored.corrections += len(corrections)


def fold_levels(session: Session, touched: Sequence[tuple[int, int, int]]) -> Mapping[tuple[int, int], tuple[int, int]]:
    """Bring the levels of (customer id, meter id, first changed microsecond) up to date; (before, after) by pair."""
    if not touched:
        return {}
    touched = sorted(touched)
    pairs = {"customer_ids": [key[0] for key in touched], "meter_ids": [key[1] for key in touched]}
    first = [from_micros(key[2]) for key in touched]
    session.execute(statement("reopen_levels"), {**pairs, "first": first})
    session.execute(
        text("""
            DELETE FROM accruals a USING levels l
            WHERE (l.customer_id, l.meter_id) IN (
                    SELECT * FROM unnest(CAST(:customer_ids AS bigint[]), CAST(:meter_ids AS bigint[]))
                )
                AND a.customer_id = l.customer_id AND a.meter_id = l.meter_id AND a.hour >= l.accrued_until
        """),
        pairs,
    )
    folded = session.execute(statement("fold_levels"), pairs)
    return {(row.customer_id, row.meter_id): (int(row.before), int(row.level)) for row in folded}


def _refused(session: Session, row: Row, error: Exception, correct: bool) -> Stored:
    """A row that PostgreSQL refuses: set aside, and taken out of the live counter."""
    stored = Stored(faults=[_fault(row, "refused", str(getattr(error, "orig", error)).splitlines()[0])])
    if correct and row.effect:
        correction = {"customer": row.customer, "meter": row.meter, "period_id": row.period, "units": -row.effect}
        session.execute(insert(Correction), [{"partition": row.partition, **correction}])
        stored.corrections += 1
    return stored


def _is_poison(error: DBAPIError) -> bool:
    """Whether what was sent is at fault, rather than the server: then the same again would fail the same way.

    SQLSTATE classes 22 (data), 23 (integrity), 54 (a program limit, such as an index row that is too long).
    """
    state = getattr(error.orig, "sqlstate", None) or ""
    return isinstance(error, DataError | IntegrityError) or state[:2] in ("22", "23", "54")


def _fault(row: Row, reason: str, detail: str) -> Fault:
    return Fault(row.partition, row.position, row.item, row.decision, row.message, reason, detail, row.customer)


def row_arrays(rows: Sequence[Row]) -> dict[str, str]:
    """The columns of the rows as array literals: many times cheaper than having each element adapted by itself."""
    columns = dict(zip(Row._fields, zip(*rows, strict=True), strict=True))
    return {name: _literal(columns[name], quoted=name in TEXT_COLUMNS) for name in ARRAY_COLUMNS}


def _literal(values: Sequence[Any], *, quoted: bool) -> str:
    """A PostgreSQL array literal. Source: the manual's "Array Input and Output Syntax"."""
    if quoted:
        return "{" + ",".join(['"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in values]) + "}"
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"
