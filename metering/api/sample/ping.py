"""`GET ping`: a call and nothing else."""

from typing import Any, Literal

from metering.api.operation import Example, described
from metering.api.sample.blueprint import blueprint
from metering.api.shapes import Answer
from metering.metered import metered


class Pong(Answer):
    pong: Literal[True]


@blueprint.get("/ping")
@described("Sample", answers={200: Pong}, example=Example())
@metered("api_call")
def ping() -> dict[str, Any]:
    """A call and nothing else. Counts one `api_call`."""
    return {"pong": True}
