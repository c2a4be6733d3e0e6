"""The operators' console at /operator: how the product does, what needs a human, and the decisions on it."""

from metering.operator import audit, customers, home, invariants, messages, queues, stripe, stripe_events
from metering.operator.pages import blueprint

__all__ = ["audit", "blueprint", "customers", "home", "invariants", "messages", "queues", "stripe", "stripe_events"]
