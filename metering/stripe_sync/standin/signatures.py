"""Signs a delivery as Stripe does: `Stripe-Signature: t=<Unix seconds>,v1=<HMAC-SHA256 of "t.body">`.

`t` is the machine's time at this very attempt, as Stripe signs each attempt anew. Receivers compare it with their own
clock and refuse what is older than five minutes. Were it the stand-in's clock, every delivery would be refused once a
test has set that clock back; and once it was set forward, an old delivery could be replayed for as long. What happened
when, by the stand-in's clock, is the event's `created`.
Source: Stripe's page on verifying webhook signatures.
"""

from __future__ import annotations

import hashlib
import hmac


def signature_header(body: bytes, secret: str, at: float) -> str:
    timestamp = int(at)
    signed = f"{timestamp}.".encode() + body
    return f"t={timestamp},v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"
