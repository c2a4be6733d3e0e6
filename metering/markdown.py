"""Markdown of our own documents and docstrings as HTML. HTML inside of it stays text: the parser escapes it."""

from collections.abc import Iterator, Mapping, Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

_PARSER = MarkdownIt("commonmark", {"html": False}).enable("table")


def to_html(text: str, links: Mapping[str, str] | None = None) -> Markup:
    """`links`: where the documents that a text refers to are served. What points to another file is left as words."""
    tokens = _PARSER.parse(text)
    for token in tokens:
        token.children = list(_linked(token.children, links or {})) if token.children else token.children
    return Markup(_PARSER.renderer.render(tokens, _PARSER.options, {}))


def inline(text: str) -> Markup:
    """Without a paragraph around it."""
    return Markup(_PARSER.renderInline(text))


def _linked(tokens: Sequence[Token], links: Mapping[str, str]) -> Iterator[Token]:
    dropped = False
    for token in tokens:
        if token.type == "link_open":
            address = str(token.attrs.get("href", ""))
            file = address.partition("#")[0]
            dropped = file.endswith(".md") and file not in links
            if file in links:
                token.attrs["href"] = links[file]
        if not (dropped and token.type in ("link_open", "link_close")):
            yield token
