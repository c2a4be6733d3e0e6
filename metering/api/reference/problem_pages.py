"""`GET /problems/<code>`: the address that a problem's `type` names. It says what `docs/errors.md` says."""

from flask import Blueprint, render_template, url_for

from metering import manual
from metering.errors import NotFound
from metering.markdown import to_html
from metering.problems import title_of

blueprint = Blueprint("problems", __name__, url_prefix="/problems")


@blueprint.get("/")
def index() -> str:
    """All kinds of problems, and what is true of each of them."""
    chapters = [(chapter, to_html(chapter.introduction, _links())) for chapter in manual.chapters()]
    return render_template("reference/problems.html", chapters=chapters, title_of=title_of)


@blueprint.get("/<code>")
def page(code: str) -> str:
    """What a problem means and what to do. Raises NotFound."""
    entry = manual.entries().get(code)
    if entry is None:
        raise NotFound("there is no such problem", code=code)
    text = to_html(entry.text, _links())
    return render_template("reference/problem.html", entry=entry, title=title_of(code), text=text)


def _links() -> dict[str, str]:
    return {"api.md": url_for("api_description.docs"), "errors.md": url_for("problems.index")}
