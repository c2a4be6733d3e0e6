"""Schemas as people read them: a line for each field, with its type in words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metering.api.parameters import field_words
from metering.api.schemas import Described

DEEPEST = 4
HUGE = 2**53
BOUNDS = (
    ("minimum", "at least {}"),
    ("exclusiveMinimum", "above {}"),
    ("maximum", "at most {}"),
    ("exclusiveMaximum", "below {}"),
    ("minLength", "{} or more characters"),
    ("maxLength", "at most {} characters"),
    ("minItems", "{} or more of them"),
    ("maxItems", "at most {} of them"),
    ("minProperties", "{} or more entries"),
    ("maxProperties", "at most {} entries"),
)


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a JSON object, or an object inside of it at its `depth`."""

    name: str
    type: str
    needed: bool
    depth: int = 0
    words: str = ""
    bounds: str = ""
    default: str = ""


@dataclass(frozen=True, slots=True)
class Reader:
    """`shared`: the schemas that others refer to, by name."""

    shared: Mapping[str, Described]

    def resolved(self, schema: Described) -> Described:
        reference = schema.get("$ref")
        return self.shared[reference.rpartition("/")[2]] if reference else schema

    def type_of(self, schema: Described) -> str:
        """`string`, `array of objects`, `number or null`, `“a” or “b”`; what an object holds stands in its fields."""
        if "$ref" in schema:
            return self.type_of(self.resolved(schema))
        if choices := schema.get("anyOf") or schema.get("oneOf"):
            return " or ".join(dict.fromkeys(self.type_of(choice) for choice in choices))
        if "const" in schema:
            return quoted(schema["const"])
        if "enum" in schema:
            return " or ".join(quoted(value) for value in schema["enum"])
        kind = schema.get("type", "anything")
        if isinstance(kind, list):
            return " or ".join(kind)
        if kind == "array":
            return f"array of {plural(self.type_of(schema.get('items', {})))}"
        if kind == "object" and isinstance(values := schema.get("additionalProperties"), Mapping):
            return f"object of {plural(self.type_of(dict(values)))}, by name"
        return {"date-time": "time", "binary": "bytes"}.get(str(schema.get("format")), str(kind))

    def fields(self, schema: Described, depth: int = 0, seen: Sequence[str] = ()) -> Iterator[Field]:
        """Of an object, or of what a list holds, down into the objects inside."""
        inner = self._object(schema)
        if inner is None or depth > DEEPEST:
            return
        needed = inner.get("required", ())
        said = field_words(inner.get("description", ""))[1]
        for name, found in inner.get("properties", {}).items():
            yield self.field(name, found, needed=name in needed, depth=depth, words=said.get(name, ""))
            reference = _reference(found)
            if reference and reference not in seen:
                yield from self.fields(found, depth + 1, (*seen, reference))

    def field(self, name: str, schema: Described, *, needed: bool, depth: int = 0, words: str = "") -> Field:
        return Field(
            name=name,
            type=self.type_of(schema),
            needed=needed,
            depth=depth,
            words=words or schema.get("description", "") or self._words_of_inner(schema),
            bounds=bounds_of(schema),
            default=quoted(schema["default"]) if schema.get("default") not in (None, "") else "",
        )

    def about(self, schema: Described) -> str:
        """What is said of the object that a schema is about, apart from its fields."""
        return field_words((self._object(schema) or schema).get("description", ""))[0]

    def _words_of_inner(self, schema: Described) -> str:
        return self.about(schema) if _reference(schema) else ""

    def _object(self, schema: Described) -> Described | None:
        """The one object that a schema is about: itself, what it refers to, or what its list or mapping holds."""
        found = self.resolved(schema)
        if "properties" in found:
            return found
        return next((inner for held in _held(found) if (inner := self._object(held))), None)


def bounds_of(schema: Described) -> str:
    said = [
        words.format(f"{one[name]:,}")
        for one in (schema, *schema.get("anyOf", ()))
        for name, words in BOUNDS
        if name in one and not _goes_without_saying(name, one[name])
    ]
    whole = ", ".join(dict.fromkeys(said))
    return whole[:1].upper() + whole[1:]


def _goes_without_saying(bound: str, value: Any) -> bool:
    """That something is not empty, and a bound that only computers reach."""
    return value >= HUGE or (bound.startswith("min") and bound != "minimum" and value == 1)


def quoted(value: Any) -> str:
    return f"“{value}”" if isinstance(value, str) else str(value).lower()


def plural(kind: str) -> str:
    """`objects` of `object`, `arrays of strings` of `array of strings`. Anything else stays as it is."""
    head, of, rest = kind.partition(" of ")
    if of and head in ("array", "object"):
        return f"{head}s of {rest}"
    return f"{kind}s" if kind.isalpha() and kind not in ("null", "anything", "bytes") else kind


def _held(schema: Described) -> Iterator[Described]:
    """What may stand in the place of a schema, or inside of it."""
    yield from schema.get("anyOf", ())
    for word in ("items", "additionalProperties"):
        if isinstance(inner := schema.get(word), Mapping):
            yield dict(inner)


def _reference(schema: Described) -> str | None:
    """The name of the object that a schema leads to, if there is one."""
    if reference := schema.get("$ref"):
        return str(reference)
    return next((found for inner in _held(schema) if (found := _reference(inner))), None)
