"""Metered calls without any web framework: the running call, what it produces, idempotency, the limits' headers."""
