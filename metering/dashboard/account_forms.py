"""The forms about people: signing up, passwords, addresses, the second step, invitations."""

from flask_wtf import FlaskForm
from wtforms import PasswordField, SelectField, StringField
from wtforms.validators import DataRequired, InputRequired, Length, Optional

from metering.accounts.passwords import MAX_LENGTH, MIN_LENGTH
from metering.dashboard.forms import stripped
from metering.models import ROLES

PASSWORD_HELP = f"At least {MIN_LENGTH} characters. A few words in a row are good."


def email_field() -> StringField:
    return StringField(filters=[stripped], validators=[DataRequired("Enter an email."), Length(max=254)])


def new_password() -> PasswordField:
    wrong = f"{MIN_LENGTH} to {MAX_LENGTH} characters."
    return PasswordField(
        validators=[InputRequired("Choose a password."), Length(min=MIN_LENGTH, max=MAX_LENGTH, message=wrong)]
    )


def own_password() -> PasswordField:
    return PasswordField(validators=[InputRequired("Enter your password.")])


def name_field(missing: str) -> StringField:
    wrong = "At most 80 characters."
    return StringField(filters=[stripped], validators=[DataRequired(missing), Length(max=80, message=wrong)])


class SignUpForm(FlaskForm):  # type: ignore[misc]  # the library has no types
    name = name_field("Enter your name.")
    organization = name_field("Enter the name of your organization.")
    email = email_field()
    password = new_password()


class PasswordForm(FlaskForm):  # type: ignore[misc]
    """The password of who says to be somebody."""

    password = own_password()


class ForgotForm(FlaskForm):  # type: ignore[misc]
    email = email_field()


class ResetForm(FlaskForm):  # type: ignore[misc]
    password = new_password()


class ChangePasswordForm(FlaskForm):  # type: ignore[misc]
    current = own_password()
    password = new_password()


class ChangeEmailForm(FlaskForm):  # type: ignore[misc]
    email = email_field()
    current = own_password()


class NameForm(FlaskForm):  # type: ignore[misc]
    name = name_field("Enter your name.")


class CodeForm(FlaskForm):  # type: ignore[misc]
    code = StringField(filters=[stripped], validators=[DataRequired("Enter a code."), Length(max=40)])


class JoinForm(FlaskForm):  # type: ignore[misc]
    name = name_field("Enter your name.")
    password = new_password()


class InviteForm(FlaskForm):  # type: ignore[misc]
    email = email_field()
    role = SelectField(choices=list(ROLES), default="member")


class RoleForm(FlaskForm):  # type: ignore[misc]
    role = SelectField(choices=list(ROLES))


class SettingsForm(FlaskForm):  # type: ignore[misc]
    name = name_field("Enter a name.")
    timezone = StringField(filters=[stripped], validators=[Optional(), Length(max=100)])
