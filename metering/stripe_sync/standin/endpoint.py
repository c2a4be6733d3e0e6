"""What an endpoint is: a method, a path, the parameters it takes and the function that runs it.

A noun's module ends with its tuple of endpoints; `app.py` lists the nouns. That is all a new noun needs.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

from metering.stripe_sync.standin.errors import ApiError, no_such
from metering.stripe_sync.standin.rendering import rendered, wanted
from metering.stripe_sync.standin.rules import Record
from metering.stripe_sync.standin.store import Change, Document, Store
from metering.stripe_sync.standin.usage import Usage


@dataclass
class Call:
    """One run of an endpoint: its parameters, the state it may look at, and the changes it wants.

    The changes are committed together with the answer, after the endpoint returned; an error discards them.
    `base_url` is how the caller reached the stand-in, for the pages that an answer links to.
    """

    store: Store
    usage: Usage
    path: str
    ids: dict[str, str]
    params: dict[str, Any]
    now: float
    summary_delay_seconds: float
    base_url: str = ""
    changes: list[Change] = field(default_factory=list)

    @property
    def timestamp(self) -> int:
        return int(self.now)

    def save(self, noun: str, document: Document) -> Document:
        self.changes.append(Change(noun, document["id"], document))
        return document

    def get(self, noun: str, id: str) -> Document | None:
        """A document with this call's own changes."""
        for change in reversed(self.changes):
            if (change.noun, change.id) == (noun, id):
                return change.document
        return self.store.of(noun).get(id)

    def all(self, noun: str) -> list[Document]:
        """Every document of a noun with this call's own changes, oldest first."""
        changed = {change.id: change.document for change in self.changes if change.noun == noun}
        return list({**self.store.of(noun), **changed}.values())

    def find(self, noun: str, name: str) -> Document:
        """The document whose id stands in the path; 404 where there is none. `name` is Stripe's word for the noun."""
        return self.named(noun, name, self.ids["id"], param="id")

    def named(self, noun: str, name: str, id: str, *, param: str) -> Document:
        """The document that a parameter refers to; 400 where there is none."""
        found = self.get(noun, id)
        if found is None:
            raise no_such(name, id, param=param)
        return found

    def shown(self, document: Document, expand: Iterable[str] = ()) -> Document:
        """The document as Stripe shows it, with the paths in `expand` expanded."""
        return cast("Document", rendered(document, self.get, wanted(expand)))


@dataclass(frozen=True)
class Endpoint:
    """`expandable` names the paths that `expand` may ask for, such as `data.product`; nothing else can be expanded."""

    method: str
    path: str
    params: Record
    run: Callable[[Call], Document]
    expandable: frozenset[str] = frozenset()

    def check_expand(self, params: dict[str, Any]) -> None:
        for name in params.get("expand", ()):
            if name not in self.expandable:
                raise ApiError(f"This property cannot be expanded ({name}).", param="expand")


def new_id(prefix: str, length: int = 14) -> str:
    """An id as Stripe makes them: a prefix and letters and digits without meaning."""
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    return f"{prefix}_" + "".join(secrets.choice(alphabet) for _ in range(length))
