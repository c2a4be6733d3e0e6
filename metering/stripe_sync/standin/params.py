"""Reads Stripe's form encoding: `payload[value]=1`, `expand[]=data.customer`, `tiers[0][up_to]=10`.

Source: the encoder of Stripe's own client libraries. Nothing is judged here; that is `rules.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeAlias

Raw: TypeAlias = "str | dict[str, Raw]"
Pairs: TypeAlias = list[tuple[str, str]]

_NESTED = re.compile(r"[^\[\]]+(\[[^\[\]]*\])+")


def nest(pairs: Iterable[tuple[str, str]]) -> dict[str, Raw]:
    """Nested hashes of strings; a list is a hash whose keys are its indices.

    A name whose brackets don't close stays one flat name, so that it is refused as unknown.
    """
    root: dict[str, Raw] = {}
    for name, value in pairs:
        place = root
        *parents, last = _keys(name)
        for key in parents:
            inner = place.get(key)
            if not isinstance(inner, dict):
                inner = place[key] = {}
            place = inner
        place[last or str(len(place))] = value
    return root


def _keys(name: str) -> list[str]:
    if not _NESTED.fullmatch(name):
        return [name]
    head, _, rest = name.partition("[")
    return [head, *rest[:-1].split("][")]
