"""Names and digests that several parts must agree on: partitions, identities, API keys. Pure."""

import hashlib
import os
import re
import secrets
import zlib
from dataclasses import dataclass
from struct import Struct

KEY_MARK = "mk"
VISIBLE_PREFIX = 10
TOKEN_MARK = "mt"  # noqa: S105 - how all of them begin
TOKENS = re.compile(rf"\b{TOKEN_MARK}_[A-Za-z0-9_-]{{10,}}")
"""Tokens of links as they stand in a text. Whoever has one may act: they belong in no log."""
PARTITION = re.compile("[0-9a-f]{2}")
_LENGTH = Struct(">I").pack


def partition_of(customer_key: str, partitions: int) -> int:
    """Where a customer's counters and stream live; must never change for a customer once it was stored."""
    return zlib.crc32(customer_key.encode()) % partitions


def identity_digest(customer_key: str, source: str, event_id: str, meter: str = "") -> str:
    """The identity of an event, (customer, source, id), as 32 hex digits. Length prefixes keep parts apart.

    `meter` is named for the second and each further meter that counts the same event.
    """
    parts = (customer_key, source, event_id, meter) if meter else (customer_key, source, event_id)
    raw = [part.encode() for part in parts]
    return hashlib.blake2b(b"".join([_LENGTH(len(part)) + part for part in raw]), digest_size=16).hexdigest()


def text_digest(text: str) -> str:
    """What a text says, as 32 hex digits."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def new_id() -> str:
    """32 random hex digits."""
    return os.urandom(16).hex()


@dataclass(frozen=True, slots=True)
class NewKey:
    """A freshly made API key: the only moment at which its secret exists in clear."""

    secret: str
    prefix: str
    digest: str


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token for a link in an e-mail; its digest is what is stored."""

    secret: str
    digest: str


def new_token() -> NewToken:
    """256 random bits, `mt_<43 characters>`."""
    secret = f"{TOKEN_MARK}_{secrets.token_urlsafe(32)}"
    return NewToken(secret, key_digest(secret))


def without_tokens(text: str) -> str:
    return TOKENS.sub(f"{TOKEN_MARK}_***", text)


def new_api_key(partition: int) -> NewKey:
    """A random key that carries its partition in clear: `mk_<partition, two hex digits>_<43 characters>`."""
    secret = f"{KEY_MARK}_{partition:02x}_{secrets.token_urlsafe(32)}"
    return NewKey(secret=secret, prefix=secret[:VISIBLE_PREFIX], digest=key_digest(secret))


def key_digest(secret: str) -> str:
    """SHA-256 of the key: what is stored. A key has 256 random bits, so no slow hash is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()


def key_partition(secret: str) -> int | None:
    """The partition that a key names, or None for something that is no key of ours."""
    mark, _, rest = secret.partition("_")
    number, _, random_part = rest.partition("_")
    if mark != KEY_MARK or not PARTITION.fullmatch(number) or len(random_part) < 40:
        return None
    return int(number, 16)
