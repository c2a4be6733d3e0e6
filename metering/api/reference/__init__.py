"""The API's description: for machines (`/api/openapi.json`) and for people (`/api/docs`). Both are public."""

from metering.api.reference.document import blueprint

__all__ = ["blueprint"]
