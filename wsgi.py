"""The product as a WSGI application: `gunicorn wsgi:app`, `flask --app wsgi …`."""

from metering import create_app

app = create_app()
