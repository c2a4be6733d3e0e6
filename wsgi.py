"""The product as a WSGI application: `gunicorn wsgi:app`, `flask --app wsgi …`."""

import gc

gc.disable()  # what is imported stays: to look through it again and again meanwhile is a fifth of a start

import sys  # noqa: E402

from metering import create_app  # noqa: E402
from metering.errors import MeteringError  # noqa: E402

try:
    app = create_app()
except MeteringError as error:
    sys.exit(error.message)
gc.freeze()  # what the app is made of lives as long as the process
gc.enable()
