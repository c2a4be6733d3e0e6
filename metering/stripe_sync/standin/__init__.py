"""A small local Stripe: a process of its own, with its own store and its own arithmetic.

It imports nothing else of the product and not the `stripe` library either, so that its totals can be held against ours.
"""

from metering.stripe_sync.standin.app import create_standin

__all__ = ["create_standin"]
