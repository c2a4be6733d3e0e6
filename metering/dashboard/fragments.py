"""Parts of pages that are asked for again and again."""

from flask import Response, request

from metering.dashboard.view_models import Fragment


def fragment(view: Fragment) -> Response | None:
    """204 for who has this very content already; else None, and it is to be rendered."""
    return Response(status=204) if request.args.get("fingerprint") == view.fingerprint else None
