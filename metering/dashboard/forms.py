"""The forms of the pages. CSRF is checked before any view runs."""

from flask_wtf import FlaskForm
from wtforms import BooleanField, PasswordField, SelectField, SelectMultipleField, StringField
from wtforms.validators import DataRequired, InputRequired, Length

from metering.accounts.keys import DEFAULT_SCOPES
from metering.dashboard.view_models import ScopeChoice

SCOPES = (
    ScopeChoice("meter", "Call the API", "Metered endpoints, such as those of the sample API."),
    ScopeChoice("usage:read", "Read usage", "Usage, limits and the bill so far."),
    ScopeChoice("admin", "Manage", "API keys, members and alert thresholds."),
)
"""What a customer grants itself; `events:write`, which writes its own bill, is granted by operators alone."""


def stripped(text: str | None) -> str:
    return (text or "").strip()


class LoginForm(FlaskForm):  # type: ignore[misc]  # the library has no types
    email = StringField(filters=[stripped], validators=[DataRequired("Enter your email."), Length(max=254)])
    password = PasswordField(validators=[InputRequired("Enter your password.")])
    remember = BooleanField()


OVERLAPS = (
    ("0", "Stop it at once"),
    ("3600", "Keep it for an hour"),
    ("86400", "Keep it for a day"),
    ("604800", "Keep it for a week"),
)
"""What becomes of a key that is replaced, by the seconds for which it still works."""


class RotateForm(FlaskForm):  # type: ignore[misc]  # the library has no types
    overlap = SelectField(choices=[seconds for seconds, _ in OVERLAPS], default="86400")


class KeyForm(FlaskForm):  # type: ignore[misc]  # the library has no types
    name = StringField(
        filters=[stripped],
        validators=[DataRequired("Say what the key is for."), Length(max=80, message="At most 80 characters.")],
    )
    scopes = SelectMultipleField(
        choices=[choice.value for choice in SCOPES],
        default=list(DEFAULT_SCOPES),
        validators=[DataRequired("Choose at least one.")],
        validate_choice=True,
    )
