"""Structured logs: one line an event, JSON in production, with the request's or the job's id and never a secret.

They go to standard error: what a command prints is its answer alone.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog
from flask import g, has_request_context
from rq import get_current_job

from metering.settings import Settings

SECRET_NAMES = re.compile(r"(secret|password|token|authorization|api_key|cookie)", re.IGNORECASE)
SECRET_VALUES = re.compile(r"\b(mk_[0-9a-f]{2}_|sk_(?:test|live)_|rk_(?:test|live)_|whsec_|mt_)[A-Za-z0-9_-]+")

Event = MutableMapping[str, Any]


def configure_logs(settings: Settings) -> None:
    renderer: Any = structlog.processors.JSONRenderer()
    if settings.is_development:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_ids,
            structlog.processors.format_exc_info,
            hide_secrets,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _add_ids(_: Any, __: str, event: Event) -> Event:
    if has_request_context() and "request_id" in g:
        event["request_id"] = g.request_id
    job = get_current_job()
    if job is not None:
        event["job_id"] = job.id
    return event


def hide_secrets(_: Any, __: str, event: Event) -> Event:
    """Blank what is named like a secret, and what looks like one of our keys, of Stripe's, or the token of a link."""
    for name, value in event.items():
        if SECRET_NAMES.search(name):
            event[name] = "***"
        elif isinstance(value, str):
            event[name] = SECRET_VALUES.sub(r"\1***", value)
    return event
