"""The blueprint that the nouns of the sample API hang their routes on, and what all of them need."""

from flask import Blueprint

from metering.errors import NotAuthenticated
from metering.metered import usage

blueprint = Blueprint("sample", __name__, url_prefix="/api/v1/sample")


def billed_customer() -> str:
    """The key of the customer that the call is billed to. Raises NotAuthenticated while metering is switched off."""
    if usage.customer is None:
        raise NotAuthenticated("metering is switched off here, so nobody can tell whose request this is")
    return usage.customer
