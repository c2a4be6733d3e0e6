"""The templates alone, without a backend: what they say, what they escape, what the policy forbids."""

import re
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree

import pytest
from flask import Flask, render_template_string

from metering.dashboard.view_models import AlertsView, AlertView, Bar, OutageView, ScopeChoice, UsageCard, UsageView

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
SCRIPTS = sorted((ROOT / "static" / "js").glob("*.js"))
HOSTILE = '<script>alert("x")</script>'


@pytest.fixture
def render():
    app = Flask("templates", root_path=str(ROOT), template_folder="templates", static_folder="static")
    app.jinja_env.globals["csrf_token"] = lambda: "token"
    for name in ("overview", "usage_cards", "live_alerts", "estimate", "keys", "quickstart", "plan"):
        app.add_url_rule(f"/c/<customer_key>/{name}", f"dashboard.{name}", lambda customer_key: "")

    def rendered(source: str, **values) -> str:
        with app.test_request_context():
            return render_template_string(source, **values)

    return rendered


def card(**changes) -> UsageCard:
    facts = {
        "meter": "api_call",
        "name": "API calls",
        "unit": "calls",
        "used": "83.1K",
        "used_exact": "83,110 calls",
        "bar": Bar(used=Decimal("83.11"), included=Decimal(10), limit=Decimal(100)),
        "state": "warn",
        "kind": "resets",
        "limit_kind": "hard",
        "limit": "100K",
        "limit_exact": "100,000 calls",
        "percent": Decimal("83.11"),
        "percent_text": "83%",
        "resets_text": "Resets in 7 days",
    }
    return UsageCard(**{**facts, **changes})


CARD = "{% from 'ui/usage_card.html' import usage_card %}{{ usage_card(card) }}"
METER = "{% from 'ui/meter.html' import meter_bar %}{{ meter_bar('m', 'Calls', bar, 'ok', 'text', percent) }}"


def parsed(html: str) -> ElementTree.Element:
    return ElementTree.fromstring(html)


def drawn(html: str) -> dict[str, str]:
    """The width of each shape of the bar, by its class."""
    return {shape.attrib["class"]: shape.attrib["width"] for shape in parsed(html).iter("rect")}


def test_a_bar_is_a_meter_that_says_what_it_shows(render):
    meter = parsed(render(METER, bar=Bar(used=Decimal("42.5")), percent=Decimal("42.5")))
    assert meter.attrib["role"] == "meter"
    assert meter.attrib["aria-label"] == "Calls"
    assert (meter.attrib["aria-valuemin"], meter.attrib["aria-valuemax"]) == ("0", "100")
    assert meter.attrib["aria-valuenow"] == "42.50"
    assert meter.attrib["aria-valuetext"] == "text"


@pytest.mark.parametrize(
    ("used", "held", "width", "held_width"),
    [
        ("42.5", "3", "42.50%", "45.50%"),
        ("140", "0", "100.00%", None),
        ("98", "40", "98.00%", "100.00%"),
        ("0.01", "0", "1.00%", None),
        ("1E+2", "0", "100.00%", None),
        ("0", "0", None, None),
        ("-5", "0", None, None),
    ],
)
def test_bars_stay_inside_their_track(render, used, held, width, held_width):
    shapes = drawn(render(METER, bar=Bar(used=Decimal(used), held=Decimal(held)), percent=None))
    assert shapes.get("meter-used") == width
    assert shapes.get("meter-held") == held_width


def test_aria_value_stays_in_range_when_usage_passed_the_limit(render):
    html = render(METER, bar=Bar(used=Decimal(100), limit=Decimal(80)), percent=Decimal(125))
    assert 'aria-valuenow="100.00"' in html
    assert "meter-mark-limit" in html


@pytest.mark.parametrize(
    ("changes", "words", "sign"),
    [
        ({}, "Near limit", "#alert-triangle"),
        ({"state": "full", "percent_text": "100%"}, "Limit reached", "#alert-octagon"),
        ({"state": "full", "overshoot": True}, "Over limit", "#alert-octagon"),
        ({"state": "unlimited", "limit": None, "limit_exact": None, "percent": None}, "No limit", "#infinity"),
    ],
)
def test_a_state_is_told_by_words_and_sign_not_by_colour_alone(render, changes, words, sign):
    html = render(CARD, card=card(**changes))
    assert words in html
    assert sign in html


def test_an_ordinary_card_shows_no_state(render):
    html = render(CARD, card=card(state="ok"))
    assert "pill" not in html


def test_the_meters_text_is_one_plain_sentence(render):
    html = render(CARD, card=card(held="1.2K", held_exact="1,200 calls"))
    assert (
        'aria-valuetext="83,110 calls of 100,000 calls, 83%, near the limit, 1,200 calls held by running calls"' in html
    )


@pytest.mark.parametrize("field", ["name", "unit", "used_exact", "limit_exact", "resets_text", "overage_cost"])
def test_cards_escape_every_text(render, field):
    assert HOSTILE not in render(CARD, card=card(**{field: HOSTILE}))


def test_alerts_escape_their_text_and_stay_out_of_live_regions(render):
    alerts = AlertsView(
        "acme", (AlertView("a1", "critical", HOSTILE, HOSTILE, at_text=HOSTILE),), OutageView(HOSTILE, HOSTILE)
    )
    html = render("{% include 'dashboard/partials/alerts.html' %}", alerts=alerts)
    assert HOSTILE not in html
    assert 'data-alert="a1"' in html
    assert "aria-live" not in html
    assert 'role="alert"' not in html


def test_a_fragment_asks_again_with_its_own_fingerprint(render):
    usage = UsageView("acme", (card(),))
    html = render("{% include 'dashboard/partials/usage_cards.html' %}", usage=usage)
    assert f"/c/acme/usage_cards?fingerprint={usage.fingerprint}" in html
    assert 'hx-trigger="every 2s, refresh"' in html


def test_a_customer_without_usage_is_told_what_to_do(render):
    usage = UsageView("acme", (), has_usage=False)
    html = render("{% include 'dashboard/partials/usage_cards.html' %}", usage=usage)
    assert "Nothing used yet" in html
    assert 'href="/c/acme/quickstart"' in html


def test_fields_tie_label_help_and_error_together(render):
    html = render(
        "{% from 'ui/forms.html' import text_field %}"
        "{{ text_field('email', 'Email', value, help='Yours.', errors=['Missing.'], attrs={'autofocus': none}) }}",
        value='"><b>',
    )
    assert '<label class="form-label" for="email">' in html
    assert 'aria-describedby="email-help email-error" aria-invalid="true"' in html
    assert "Missing." in html
    assert '"><b>' not in html
    assert "autofocus" not in html


def test_choices_keep_what_was_chosen(render):
    html = render(
        "{% from 'ui/forms.html' import checkbox_list %}{{ checkbox_list('scopes', 'Scopes', choices, ['b']) }}",
        choices=(ScopeChoice("a", "A"), ScopeChoice("b", "B")),
    )
    assert re.findall(r'value="(\w)"( checked)?', html) == [("a", ""), ("b", " checked")]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_templates_keep_to_the_content_security_policy(path):
    """`script-src 'self'; style-src 'self'`: nothing inline, and nothing from another origin."""
    text = re.sub(r"\{#.*?#\}", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert not re.search(r"\sstyle\s*=", text)
    assert "<style" not in text
    assert not re.search(r"<script(?![^>]*\ssrc=)", text)
    assert not re.search(r"[\s\"']on[a-z]+\s*=\s*[\"']", text)
    assert not re.search(r"hx-on|javascript:|\bjs:", text)
    assert not re.search(r"https?://", text)
    assert not re.search(r"\|\s*safe\b", text)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_set_no_inline_styles_and_no_markup(path):
    assert not re.search(r"\.style\b|innerHTML|outerHTML|insertAdjacentHTML|\beval\b", path.read_text("utf-8"))


def test_css_asks_no_other_origin():
    css = (ROOT / "static" / "css" / "app.css").read_text("utf-8")
    assert not re.search(r"@import|url\(", css)


def test_every_icon_in_use_is_in_the_list():
    listed = set((ROOT / "assets" / "icons.txt").read_text("utf-8").splitlines())
    direct = {name for path in TEMPLATES for name in re.findall(r"\bicon\(\s*'([a-z0-9-]+)'", path.read_text("utf-8"))}
    models = (ROOT / "metering" / "dashboard" / "view_models.py").read_text("utf-8")
    by_meter = set(re.findall(r'"[a-z_]+": "([a-z0-9-]+)"', models))
    by_page = set(re.findall(r'NavItem\("[^"]+", "([a-z0-9-]+)"', models))
    assert direct
    assert by_meter
    assert by_page
    assert direct | by_meter | by_page <= listed


def test_an_address_may_break_between_its_parts_and_nothing_in_it_is_markup(render):
    html = render("{% from 'ui/page.html' import address %}{{ address(text) }}", text="a.b@<x>.example/y")
    assert html == "a.<wbr>b<wbr>@&lt;x&gt;.<wbr>example/<wbr>y"


def test_a_page_begins_with_its_name_and_leads_back(render):
    source = "{% from 'ui/page.html' import page_head %}{{ page_head('A & B', sub, back_url='/up', back_label='Up') }}"
    html = render(source, sub="<plain>")
    assert "<h1>A &amp; B</h1>" in html
    assert '<p class="page-sub">&lt;plain&gt;</p>' in html
    assert re.search(r'<p class="page-back"><a href="/up">.*Up</a></p>', html)
    assert "page-tools" not in html
    tools = "{% from 'ui/page.html' import page_head %}{% call page_head('A') %}<b>tool</b>{% endcall %}"
    assert '<div class="page-tools"><b>tool</b></div>' in render(tools)
