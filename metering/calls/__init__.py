"""Metered calls without any web framework: admission, the running call, idempotency, the limits' headers."""
