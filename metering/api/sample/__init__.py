"""A sample API."""
from flask import Blueprint
from metering.metered import metered
blueprint = Blueprint("sample", __name__, url_prefix="/api/v1/sample")

@blueprint.get("/ping")
@metered("api_call")
def ping():
    return {"pong": True}
