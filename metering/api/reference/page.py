"""`GET /api/docs`: the description of the API as a page. Needs no script, and asks no server but this one."""

from hashlib import blake2b

from flask import Response, current_app, render_template

from metering.api.operation import Content, operation
from metering.api.reference.document import blueprint, cacheable, document
from metering.api.reference.views import reference_of
from metering.markdown import inline

KEPT = "metering_api_page"


blueprint.add_app_template_filter(inline, "markdown")


@blueprint.get("/docs")
@operation("Description", scope="", answers={200: Content({"text/html": {"type": "string"}})})
def docs() -> Response:
    """This description as a page for people."""
    page: str | None = current_app.extensions.get(KEPT)
    if page is None:
        page = render_template("reference/api.html", reference=reference_of(document().described))
        current_app.extensions[KEPT] = page
    tag = blake2b(page.encode(), digest_size=12).hexdigest()
    return cacheable(Response(page, content_type="text/html; charset=utf-8"), tag)
