"""`GET ping`: a call and nothing else."""

from typing import Any

from metering.api.sample.blueprint import blueprint
from metering.metered import metered


@blueprint.get("/ping")
@metered("api_call")
def ping() -> dict[str, Any]:
    return {"pong": True}
