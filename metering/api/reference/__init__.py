"""The API's description: for machines (`/api/openapi.json`) and for people (`/api/docs`, `/problems/…`). All public."""

from metering.api.reference import page
from metering.api.reference.document import blueprint
from metering.api.reference.problem_pages import blueprint as problems

__all__ = ["blueprint", "page", "problems"]
