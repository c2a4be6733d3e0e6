"""The version of Stripe's API that is spoken here, whatever version a request asks for."""

API_VERSION = "2026-10-28.endive"
