"""Letters: e-mails whose text stands in templates/mail/NAME.txt, its subject on the first line."""

from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sqlalchemy.orm import Session

from metering.models import Mail
from metering.notify.mail import post

PACKAGE = Path(__file__).resolve().parent.parent
# In a checkout the folder stands beside the package, in a wheel inside it.
ROOT = PACKAGE if (PACKAGE / "templates").is_dir() else PACKAGE.parent


def send_letter(
    session: Session, name: str, /, *, to: str, now: datetime, customer_id: int | None = None, **facts: Any
) -> Mail:
    """Post a letter once the caller's transaction is committed."""
    subject, body = letter(name, **facts)
    return post(session, to=to, subject=subject, body=body, now=now, customer_id=customer_id)


def letter(name: str, /, **facts: Any) -> tuple[str, str]:
    """Its subject and its body. A fact that the text needs and lacks is an error."""
    text = _texts().get_template(f"{name}.txt").render(facts)
    subject, _, body = text.partition("\n")
    return subject.removeprefix("Subject: "), body.strip() + "\n"


@lru_cache(maxsize=1)
def _texts() -> Environment:
    return Environment(
        loader=FileSystemLoader(ROOT / "templates" / "mail"), undefined=StrictUndefined, keep_trailing_newline=True
    )
