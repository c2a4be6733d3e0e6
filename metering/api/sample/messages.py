"""`POST messages`: a text to some recipients, kept as if it were sent; a message for each recipient."""

from typing import Annotated, Any

from flask import Request
from pydantic import Field, field_validator

from metering.accounts.customers import find_customer
from metering.api.auth import current_metering
from metering.api.bodies import Body, read
from metering.api.operation import Example, described
from metering.api.sample.blueprint import billed_customer, blueprint
from metering.api.shapes import Answer
from metering.extensions import db
from metering.metered import metered, usage
from metering.models import SampleMessage

Recipient = Annotated[str, Field(min_length=1, max_length=254)]
Recipients = Annotated[list[Recipient], Field(min_length=1, max_length=100)]


class Message(Body):
    """`to`: one recipient or several."""

    to: Recipients
    text: Annotated[str, Field(min_length=1, max_length=10_000)]

    @field_validator("to", mode="before", json_schema_input_type=Recipients | Recipient)
    @classmethod
    def _one_or_many(cls, to: Any) -> Any:
        return [to] if isinstance(to, str) else to


class Sent(Answer):
    """`sent`: to how many."""

    id: int
    sent: int


def recipients(_: Request) -> int:
    return len(read(Message).to)


@blueprint.post("/messages")
@described(
    "Sample",
    body=Message,
    answers={201: Sent},
    example=Example(body={"to": ["ada@example.com", "bob@example.com"], "text": "Hello"}, status=201),
)
@metered("api_call", reserve={"messages": recipients})
def send() -> tuple[dict[str, Any], int]:
    """Send a text to some recipients. It is kept, not sent. Counts a `messages` for each recipient."""
    message = read(Message)
    customer = find_customer(db.session(), billed_customer())
    sent_at = current_metering().clock()
    row = SampleMessage(customer_id=customer.id, recipients=message.to, body=message.text, sent_at=sent_at)
    db.session.add(row)
    db.session.commit()
    usage.set("messages", len(message.to))
    return {"id": row.id, "sent": len(message.to)}, 201
