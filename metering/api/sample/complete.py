"""`POST complete`: text after a prompt, streamed token by token; charged are the tokens that were produced."""

from collections.abc import Iterator
from typing import Annotated

from flask import Request, Response
from pydantic import Field

from metering.api.bodies import Body, read
from metering.api.operation import Content, Example, described
from metering.api.sample.blueprint import blueprint
from metering.api.sample.markov import complete
from metering.metered import metered, usage


class Completion(Body):
    prompt: Annotated[str, Field(min_length=1, max_length=20_000)]
    max_tokens: Annotated[int, Field(ge=1, le=100_000)]


def max_tokens(_: Request) -> int:
    return read(Completion).max_tokens


@blueprint.post("/complete")
@described(
    "Sample",
    body=Completion,
    answers={200: Content({"text/plain": {"type": "string"}})},
    example=Example(body={"prompt": "the cat sat on the mat and the dog sat on the log.", "max_tokens": 50}),
)
@metered("api_call", reserve={"tokens": max_tokens})
def post() -> Response:
    """Text after a prompt, streamed token by token. Counts the `tokens` that were produced; `max_tokens` are held
    meanwhile.
    """
    wanted = read(Completion)

    def produce() -> Iterator[str]:
        for token in complete(wanted.prompt, wanted.max_tokens):
            usage.add("tokens", 1)
            yield token

    usage.set("tokens", 0)
    return Response(produce(), content_type="text/plain; charset=utf-8")
