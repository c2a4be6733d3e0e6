"""`POST compute`: a chain of hashes for up to so many CPU seconds; charged is the CPU time it took."""

from decimal import Decimal
from hashlib import sha256
from time import thread_time_ns
from typing import Annotated, Any

from flask import Request
from pydantic import BeforeValidator, Field, WithJsonSchema

from metering.api.bodies import Body, read
from metering.api.operation import Example, described
from metering.api.sample.blueprint import blueprint
from metering.api.shapes import Answer, Money
from metering.metered import metered, usage

NANOSECONDS = 1_000_000_000
LINKS_AT_ONCE = 50
MICROSECOND = Decimal("0.000001")


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError("must be a number")
    return Decimal(value)


Seconds = Annotated[
    Decimal,
    BeforeValidator(_number),
    Field(gt=0, le=10, max_digits=8, decimal_places=6),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": 10}),
]


class Computation(Body):
    """`seconds`: the most CPU time it may take, to six decimal places."""

    seconds: Seconds


class Computed(Answer):
    """`seconds`: the CPU time that was measured, as a decimal string; `links`: how many hashes; `digest`: the last."""

    seconds: Money
    links: int
    digest: str


def seconds(_: Request) -> Decimal:
    return read(Computation).seconds


@blueprint.post("/compute")
@described("Sample", body=Computation, answers={200: Computed}, example=Example(body={"seconds": 0.01}))
@metered("api_call", reserve={"compute_seconds": seconds})
def compute() -> dict[str, Any]:
    """Hash a hash, over and over, for so much CPU time. Counts the `compute_seconds` that were measured."""
    spent, links, digest = chain(int(read(Computation).seconds * NANOSECONDS))
    measured = (Decimal(spent) / NANOSECONDS).quantize(MICROSECOND)
    usage.set("compute_seconds", measured)
    return {"seconds": str(measured), "links": links, "digest": digest}


def chain(budget_ns: int) -> tuple[int, int, str]:
    """Hash a hash, over and over, until another round would pass the budget: CPU time spent, links, the last one."""
    started = thread_time_ns()
    spent = longest = links = 0
    digest = b""
    while spent + longest < budget_ns:
        for _ in range(LINKS_AT_ONCE):
            digest = sha256(digest).digest()
        links += LINKS_AT_ONCE
        before, spent = spent, thread_time_ns() - started
        longest = max(longest, spent - before)
    return spent, links, digest.hex()
