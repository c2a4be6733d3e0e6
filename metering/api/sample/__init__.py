"""A sample API: small, but real work on every meter. Each call counts an `api_call`, and what it uses beside."""

from metering.api.sample import complete, compute, files, messages, ping
from metering.api.sample.blueprint import blueprint

__all__ = ["blueprint", "complete", "compute", "files", "messages", "ping"]
