"""The JSON schemas (2020-12) of everything that operations take and answer, made by pydantic from the models."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter

from metering.api.operation import Content, Operation

Described = dict[str, Any]
Way = Literal["validation", "serialization"]

TAKEN: Way = "validation"
ANSWERED: Way = "serialization"
REFERENCE = "#/components/schemas/{model}"


@dataclass(frozen=True, slots=True)
class Schemas:
    """`shared`: the models by name, which the schemas of others refer to."""

    known: Mapping[tuple[Any, Way], Described]
    shared: Mapping[str, Described]

    def of(self, kind: Any, way: Way) -> Described:
        """Of a model, a type of the typing module, or a schema that somebody wrote by hand."""
        return dict(kind) if isinstance(kind, Mapping) else dict(self.known[kind, way])

    def resolved(self, kind: Any, way: Way) -> Described:
        """The same, itself where the other may only refer to it."""
        schema = self.of(kind, way)
        return self.shared[_name(schema["$ref"])] if "$ref" in schema else schema

    def used_in(self, described: Any) -> Described:
        """Those of the shared schemas that something refers to, directly or through another."""
        used: dict[str, None] = {}
        waiting = [described]
        while waiting:
            for name in set(_references(waiting.pop())) - used.keys():
                if name in self.shared:
                    used[name] = None
                    waiting.append(self.shared[name])
        return {name: self.shared[name] for name in sorted(used)}


def schemas_of(operations: Iterable[Operation]) -> Schemas:
    wanted: dict[tuple[Any, Way], None] = {}
    for declared in operations:
        wanted |= {(kind, TAKEN): None for what in (declared.query, declared.body) for kind in _kinds(what)}
        wanted |= {(kind, ANSWERED): None for what in declared.answers.values() for kind in _kinds(what)}
    inputs: Any = [(kind, way, TypeAdapter(kind)) for kind, way in wanted]
    known, shared = TypeAdapter.json_schemas(inputs, ref_template=REFERENCE)
    found: Any = known
    return Schemas(found, {name: _untitled(schema) for name, schema in shared.get("$defs", {}).items()})


def _kinds(what: Any) -> Iterator[Any]:
    kinds = what.schemas.values() if isinstance(what, Content) else [what]
    yield from (kind for kind in kinds if kind is not None and not isinstance(kind, Mapping))


def _references(described: Any) -> Iterator[str]:
    if isinstance(described, Mapping):
        if isinstance(reference := described.get("$ref"), str):
            yield _name(reference)
        described = list(described.values())
    if isinstance(described, list):
        for part in described:
            yield from _references(part)


def _name(reference: str) -> str:
    return reference.rpartition("/")[2]


def _untitled(schema: Described) -> Described:
    """Without the titles of the fields, which only say their names again."""
    fields = {
        name: {word: value for word, value in field.items() if word != "title"}
        for name, field in schema.get("properties", {}).items()
    }
    return {**schema, "properties": fields} if fields else schema
