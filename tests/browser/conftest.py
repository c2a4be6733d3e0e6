"""A browser in front of the product, served over HTTP with a keeper at work, as in production."""

import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import requests
from flask import Flask
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from sqlalchemy import Engine
from werkzeug.serving import make_server

from metering.dashboard.quickstart import SAMPLE_PATH
from metering.keeper import Keeper
from metering.service import Metering
from tests.browser.gate import browser_path
from tests.factories.people import PASSWORD
from tests.factories.shop import Shop
from tests.factories.standin import StandinProcess
from tests.factories.world import World

SOON_MS = 3_000
"""Within which what was done elsewhere is seen on a page that stays open."""

SERIOUS = ("serious", "critical")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--in-process-gpu",
    "--disable-software-rasterizer",
    "--renderer-process-limit=1",
]


# Not for the whole run: while it lives, Playwright keeps an event loop in this thread, which async views can't share.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def site(app: Flask, metering: Metering) -> Iterator[str]:
    """The address of the running product."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    keeper = Keeper(metering.runtime)
    threads = [threading.Thread(target=server.serve_forever), threading.Thread(target=keeper.run)]
    for thread in threads:
        thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    keeper.stop()
    for thread in threads:
        thread.join()
    server.server_close()


@dataclass
class Visit:
    """A browser of its own on the site. `faults`: what its console complained of, the content security policy too."""

    browser: Browser
    site: str
    contexts: list[BrowserContext] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def page(self, path: str = "/login", *, cookies: Mapping[str, str] | None = None, **options: Any) -> Page:
        context = self.browser.new_context(base_url=self.site, **options)
        self.contexts.append(context)
        context.add_cookies(
            [{"name": name, "value": value, "url": self.site} for name, value in (cookies or {}).items()]
        )
        page = context.new_page()
        page.on("console", lambda message: self.faults.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.goto(path)
        return page

    def logged_in(self, email: str = "owner@acme.example", **options: Any) -> Page:
        """On the overview. The form itself is filled in where a story begins with it."""
        session = requests.Session()
        form = session.get(f"{self.site}/login", timeout=20).text
        token = re.search(r'name="csrf_token" value="([^"]+)"', form)
        assert token is not None
        sent = {"csrf_token": token[1], "email": email, "password": PASSWORD}
        answer = session.post(f"{self.site}/login", data=sent, timeout=20, allow_redirects=False)
        assert answer.status_code in (302, 303), answer.text
        return self.page(answer.headers["Location"], cookies=session.cookies.get_dict(), **options)


@pytest.fixture
def shop(site: str, app: Flask, world: World, standin: StandinProcess, engine: Engine) -> Shop:
    """With `stripe_app` as its `app`: the running product sells its plans at the stand-in."""
    return Shop(app, world, standin, engine, site).open()


def ping(site: str, secret: str) -> int:
    """A metered call of the sample API, and how it was answered."""
    return requests.get(f"{site}{SAMPLE_PATH}", headers={"Authorization": f"Bearer {secret}"}, timeout=20).status_code


@pytest.fixture
def visit(browser: Browser, site: str) -> Iterator[Visit]:
    visit = Visit(browser, site)
    yield visit
    for context in visit.contexts:
        context.close()


@pytest.fixture(scope="session")
def axe() -> str:
    root = Path(__file__).resolve().parents[2]
    return (root / "node_modules" / "axe-core" / "axe.min.js").read_text("utf-8")


def serious(page: Page, axe: str) -> list[str]:
    """What of the page that is open keeps somebody from using it, in the light and in the dark, where only the colours
    are others.
    """
    page.evaluate(axe)
    _change_to(page, "dark")
    found = _violations(page, "resultTypes: ['violations'], runOnly: ['color-contrast']")
    _change_to(page, "light")
    return found + _violations(page, "resultTypes: ['violations']")


def _change_to(page: Page, theme: Literal["light", "dark"]) -> None:
    page.emulate_media(color_scheme=theme)
    page.locator(f"html[data-bs-theme={theme}]").wait_for(state="attached")
    page.evaluate("for (const one of document.getAnimations()) one.finish()")  # buttons change colour by and by


def _violations(page: Page, options: str) -> list[str]:
    result = page.evaluate(f"axe.run(document, {{{options}}})")
    return [
        f"{page.url}: {fault['id']}: {node['target']}"
        for fault in result["violations"]
        for node in fault["nodes"]
        if fault["impact"] in SERIOUS
    ]
