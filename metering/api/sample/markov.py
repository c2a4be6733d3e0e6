"""A tiny language model: a Markov chain over the prompt's own words. Pure; the same prompt gives the same text."""

import random
import re
from collections import defaultdict
from collections.abc import Iterator
from hashlib import sha256
from itertools import pairwise

TOKEN = re.compile(r"\w+|[^\w\s]")
ENDS = frozenset(".!?")


def complete(prompt: str, max_tokens: int) -> Iterator[str]:
    """At most `max_tokens` tokens of text, up to the end of its sentence."""
    tokens = TOKEN.findall(prompt)
    if not tokens:
        return
    followers = _followers(tokens)
    # Seeded, so that the same prompt reads the same everywhere; nothing secret hangs on it.
    dice = random.Random(sha256(prompt.encode()).digest())  # noqa: S311
    last = tokens[-1]
    for _ in range(max_tokens):
        last = dice.choice(followers.get(last) or tokens)
        yield f" {last}" if last[0].isalnum() else last
        if last in ENDS:
            return


def _followers(tokens: list[str]) -> dict[str, list[str]]:
    followers: dict[str, list[str]] = defaultdict(list)
    for token, follower in pairwise(tokens):
        followers[token].append(follower)
    return dict(followers)
