"""Small charts, drawn on the server: bars of one height scale. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

WIDTH, HEIGHT = 600, 72


@dataclass(frozen=True, slots=True)
class Stroke:
    """A bar, from its top left corner, in units of the drawing."""

    x: str
    y: str
    width: str
    height: str


@dataclass(frozen=True, slots=True)
class Chart:
    """`text` says what is drawn, for those who do not see it."""

    label: str
    text: str
    figure: str
    hint: str
    strokes: tuple[Stroke, ...]


def bars(label: str, values: Sequence[float], *, figure: str, hint: str, text: str) -> Chart:
    """The highest bar fills the height; what is more than nothing is at least two units high."""
    most, step = max([*values, 0]), WIDTH / max(len(values), 1)
    strokes = tuple(
        Stroke(_number(place * step + 1), _number(HEIGHT - height), _number(step - 2), _number(height))
        for place, value in enumerate(values)
        if (height := max(2.0, value / most * (HEIGHT - 4)) if value > 0 else 0.0)
    )
    return Chart(label, text, figure, hint, strokes)


def _number(value: float) -> str:
    return f"{Decimal(value).quantize(Decimal('0.1')):f}"
