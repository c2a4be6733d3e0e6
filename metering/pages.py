"""What all pages share: how an error looks."""

from http import HTTPStatus

from flask import Response, g, make_response, render_template
from werkzeug.exceptions import HTTPException

from metering.errors import MeteringError
from metering.problems import status_of


def error_page(error: MeteringError | HTTPException) -> Response:
    """A page that says what happened and what to do next; nothing of the inside."""
    status = status_of(error) if isinstance(error, MeteringError) else error.code or HTTPStatus.INTERNAL_SERVER_ERROR
    page = render_template("errors/error.html", status=int(status), request_id=g.get("request_id"), retry_text=None)
    return make_response(page, int(status))
