"""Browser tests need a Chromium of the machine. Without one they are skipped, and the end of the run says so loudly;
with METERING_REQUIRE_BROWSER=1 they fail instead.

Called by `tests/conftest.py`, so that the summary is printed by whichever process prints it.
"""

import os
import shutil
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
REASON = f"no browser on this machine: none of {', '.join(NAMES)} is on the PATH"


def browser_path() -> str | None:
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("browser") is None or browser_path():
        return
    if os.environ.get("METERING_REQUIRE_BROWSER") == "1":
        pytest.fail(f"METERING_REQUIRE_BROWSER=1, but {REASON}", pytrace=False)
    pytest.skip(REASON)


def tell_what_was_skipped(terminalreporter: Any) -> None:
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if REASON in str(report.longrepr)]
    if not skipped:
        return
    terminalreporter.section("BROWSER TESTS WERE SKIPPED", sep="!", red=True, bold=True)
    terminalreporter.line(f"{REASON}. These proved nothing; install one (Debian: apt-get install chromium):")
    for report in skipped:
        terminalreporter.line(f"  {report.nodeid}")
