"""The product as a WSGI application: `gunicorn wsgi:app`, `flask --app wsgi …`."""

import gc
import sys

from metering import create_app
from metering.errors import MeteringError

try:
    app = create_app()
except MeteringError as error:
    sys.exit(error.message)
gc.freeze()  # what the app is made of lives as long as the process: looking through it again and again frees nothing
