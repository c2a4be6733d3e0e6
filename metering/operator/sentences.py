"""What stands in the audit log, as sentences. Pure.

An action that has no words here is told by its name and its facts, so that none is ever left out.
"""

from collections.abc import Callable, Mapping
from typing import Any

Facts = Mapping[str, Any]
MOST = 160

WORDS: dict[str, str] = {
    "set_aside.replay": "replayed the set-aside message {id}",
    "set_aside.dismiss": "dismissed the set-aside message {id}",
    "set_aside.replace": "replaced the set-aside message {id} by {quantity} of {meter} for {customer}",
    "held.drop": "dropped a held event of {customer} ({type})",
    "event.void": "took back the event {id} of {source}",
    "meter.create": "made the meter {key}",
    "meter.change": "changed the meter {meter}",
    "member.add": "made user {user} a member ({role})",
    "member.change": "gave member {user} the role {role}",
    "member.remove": "removed member {user}",
    "member.join": "took up the invitation of {invited_by} ({role})",
    "invitation.send": "invited {email} ({role})",
    "invitation.resend": "sent {email} the invitation again",
    "invitation.withdraw": "withdrew the invitation of {email}",
    "user.create": "made the user {email}",
    "user.sign_up": "signed up",
    "user.rename": "changed their name",
    "user.change_password": "changed their password",
    "user.reset_link": "made a link for {email} to choose a new password",
    "user.reset_password": "chose a new password by a link",
    "user.ask_for_email": "asked for another email address",
    "user.change_email": "changed their email address from {before} to {after}",
    "user.end_session": "ended one of their sessions",
    "user.end_sessions": "ended their other sessions",
    "user.begin_two_step": "began to set up a second step",
    "user.turn_on_two_step": "turned on the second step",
    "user.new_recovery_codes": "had new recovery codes made",
    "customer.create": "made the customer",
    "customer.sign_up": "signed the customer up",
    "key.create": "made the API key “{name}”",
    "key.rotate": "rotated an API key",
    "key.revoke": "revoked the API key “{name}”",
    "alert_thresholds.change": "changed the alert thresholds",
    "webhook_endpoint.create": "made the webhook endpoint {url}",
    "webhook_endpoint.change": "changed the webhook endpoint {endpoint}",
    "webhook_endpoint.ping": "sent a test to the webhook endpoint {endpoint}",
    "webhook_endpoint.rotate": "gave the webhook endpoint {endpoint} another secret",
    "webhook_endpoint.remove": "removed the webhook endpoint {url}",
    "webhook_delivery.replay": "had the webhook {delivery} delivered again",
    "alert.dismiss": "dismissed the alert {alert}",
    "plan.checkout": "went to buy the plan {plan}",
    "plan.change": "changed the plan to {plan} at Stripe",
    "plan.cancel": "cancelled the subscription {subscription}",
    "plan.resume": "took back the cancellation of {subscription}",
    "stripe.retry": "let the row {report} be sent again ({value} units)",
    "stripe.write_off": "wrote off the row {report} ({value} units)",
    "stripe.counted": "settled the row {report} as counted by Stripe ({value} units)",
    "stripe.not_counted": "settled the row {report} as not counted by Stripe ({value} units)",
    "stripe.resume": "resumed reporting to Stripe",
    "stripe.reconcile": "compared {customer} with Stripe",
    "stripe.event.retry": "let Stripe’s event {event} ({type}) be followed again",
    "stripe.end_double": "ended the second subscription {subscription}",
    "stripe.push": "pushed the catalog to Stripe",
    "stripe.push_failed": "pushed the catalog to Stripe, not to its end",
    "stripe.forget_meter": "had owed again what Stripe’s lost meter of {meter} was told",
    "stripe.customer": "found or made the customer at Stripe",
    "stripe.link": "linked the customer with Stripe",
    "stripe.subscription": "followed a subscription",
    "job.retry": "put the job {function} in again",
    "job.delete": "deleted the job {function}",
    "verify.run": "had the books verified",
}


def sentence(action: str, facts: Facts) -> str:
    """What was done, without who and to whom: "wrote off the row 17 (8 units)"."""
    if action in SPECIAL:
        return SPECIAL[action](facts)
    if action in WORDS:
        try:
            return WORDS[action].format_map(facts)
        except KeyError:  # written by an older version, with other facts
            return WORDS[action].partition("{")[0].rstrip(" “(")
    return f"did {action}"


def reason(facts: Facts) -> str:
    """Why it was done, in the words of who did it."""
    return str(facts.get("note") or facts.get("reason") or "")


def details(action: str, facts: Facts) -> list[tuple[str, str]]:
    """The facts that the sentence does not tell."""
    told = WORDS.get(action, "")
    return [
        (name.replace("_", " "), _short(value))
        for name, value in facts.items()
        if f"{{{name}}}" not in told and name not in ("note", "reason") and value not in (None, "", [], {})
    ]


def _plan(facts: Facts) -> str:
    when = " from the next period on" if facts.get("when") == "period_end" else ""
    return f"put the customer on the plan {facts.get('plan', '?')}{when}"


def _change(facts: Facts) -> str:
    if facts.get("status") == "suspended":
        return "suspended the customer"
    if facts.get("status") == "active":
        return "activated the customer"
    return f"changed the customer: {facts['change']}" if "change" in facts else "changed the customer"


def _off(facts: Facts) -> str:
    return f"turned off the second step of {facts['email']}" if "email" in facts else "turned off their second step"


def _switch(facts: Facts) -> str:
    return f"switched the webhook endpoint {facts.get('endpoint', '?')} {'on' if facts.get('on') else 'off'}"


def _mails(facts: Facts) -> str:
    return "wants alerts by email" if facts.get("wanted") else "wants no alerts by email any more"


SPECIAL: dict[str, Callable[[Facts], str]] = {
    "customer.plan": _plan,
    "customer.change": _change,
    "user.turn_off_two_step": _off,
    "webhook_endpoint.switch": _switch,
    "alert_mails.change": _mails,
}


def _short(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= MOST else f"{text[:MOST]}…"
