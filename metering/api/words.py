"""The words of the API's description that no declaration holds: what it is, its groups, what all answers share."""

from metering.api.schemas import Described
from metering.problems import MAX_RETRY_AFTER_SECONDS

VERSION = "1.0.0"

INFO: Described = {
    "title": "Metering API",
    "version": VERSION,
    "summary": "Metered endpoints, usage, limits and bills.",
    "description": """\
Call metered endpoints, ask what was used and what is left, and send usage.

* **Keys.** Send your API key as `Authorization: Bearer mk_…`, or as `X-API-Key: mk_…`. Each operation names the scope
  that the key must carry.
* **Numbers** are exact: quantities are JSON numbers with all their digits, amounts of money are decimal strings. Only
  quotients are rounded, where it is said: means, and what an estimate shows. Read them as decimals. Times are RFC 3339,
  in UTC.
* **Errors** are problem details (RFC 9457). Their `type` is the address of a page that says what to do. Beside those
  an operation names, any may answer 500 `internal-server-error`.
* **`X-Request-Id`** names each answer, in its header and in a problem's body. One of your own is kept if it holds at
  most 64 letters, digits and dashes.
""",
}

TAGS = {
    "Usage": "What was used in the current billing period, and what it costs so far.",
    "Limits": "What the plan allows, and whether so much more would be let in.",
    "Events": "Sending usage from services that operators trust, and finding what was sent.",
    "Meters": "What is counted, and queries over its usage.",
    "Entitlements": "Whether a customer has access to a feature, and how much of it is left.",
    "Reservations": "Holding quota while work runs, and settling it with what was really used.",
    "Alerts": "Thresholds that usage or the bill has crossed.",
    "Invoices": "What Stripe has billed, as it stands there.",
    "Customers": "The billed parties: made and changed by operators.",
    "API keys": "Made, listed, replaced and revoked: those of a customer, and those of the operators.",
    "Members": "The people of a customer, and their roles.",
    "Sample": "Small endpoints that do real work, one for each meter, to try metering with.",
    "Description": "This description, for machines and for people.",
}
"""In the order in which they are shown. One that is missing here is described by the module of its operations."""

SECURITY_SCHEMES: Described = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "mk_…",
        "description": "The API key as a bearer token (RFC 6750).",
    },
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "The API key in a header of its own.",
    },
}

ANSWER_HEADERS: Described = {
    "X-Request-Id": {
        "description": "Names the request in the logs.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9A-Za-z-]{1,64}$"},
    },
    "Retry-After": {
        "description": "After how many seconds to try again. Never more than a minute; where it is missing, "
        "waiting does not help, or `resets_at` says how long.",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_RETRY_AFTER_SECONDS},
    },
    "WWW-Authenticate": {
        "description": "How to show who calls.",
        "required": True,
        "schema": {"type": "string", "const": "Bearer"},
    },
}

LIMIT_HEADERS: Described = {
    "RateLimit-Policy": {
        "description": "Each limit of the call, named after its meter: `q` the quota, `w` the period in seconds "
        "(draft-ietf-httpapi-ratelimit-headers-10). Left out where there is no limit, like the fields below.",
        "schema": {"type": "string"},
    },
    "RateLimit": {
        "description": "Each limit of the call: `r` what remains, `t` seconds until it resets.",
        "schema": {"type": "string"},
    },
    "X-RateLimit-Limit": {
        "description": "The limit that is nearest to its end, in whole units.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "X-RateLimit-Remaining": {
        "description": "What remains of it.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "X-RateLimit-Reset": {
        "description": "When it resets, in seconds since 1970-01-01 UTC. A level never does.",
        "schema": {"type": "integer"},
    },
}

REPLAY_HEADER: Described = {
    "Idempotent-Replayed": {
        "description": "This is the stored answer of the first request with its `Idempotency-Key`.",
        "schema": {"type": "string", "const": "true"},
    },
}

PROBLEM: Described = {
    "title": "Problem",
    "description": "Problem details (RFC 9457). Facts of the case stand beside these members.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance", "request_id"],
    "properties": {
        "type": {
            "description": "The kind of problem: the address of a page that describes it.",
            "type": "string",
            "format": "uri-reference",
            "examples": ["/problems/limit-exceeded"],
        },
        "title": {"description": "The kind of problem in a few words.", "type": "string"},
        "status": {"description": "The HTTP status.", "type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"description": "What is wrong in this very case.", "type": "string"},
        "instance": {"description": "The path that was asked for.", "type": "string"},
        "request_id": {"description": "The answer's `X-Request-Id`.", "type": "string"},
        "errors": {
            "description": "Where single fields or events are at fault: each of them.",
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "field": {"description": "A field of the body or the query.", "type": "string"},
                    "message": {"description": "What is wrong with the field.", "type": "string"},
                    "index": {
                        "description": "The place of an event in the request, from 0.",
                        "type": "integer",
                        "minimum": 0,
                    },
                    "pointer": {
                        "description": "A JSON pointer (RFC 6901) into the event; empty for all of it.",
                        "type": "string",
                    },
                    "reason": {"description": "What is wrong with the event there.", "type": "string"},
                },
            },
        },
    },
}
