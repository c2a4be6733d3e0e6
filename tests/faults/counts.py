"""What the campaigns of kills did, at the end of the run: how many calls, and who was killed where how often."""

from typing import Any

KILLS = "kills"


def show(terminalreporter: Any) -> None:
    """For pytest_terminal_summary: properties of reports arrive there from whichever process ran the test."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    told = {
        report.nodeid: value
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in report.user_properties
        if name == KILLS
    }
    if told:
        terminalreporter.section("kills")
    for nodeid, value in sorted(told.items()):
        terminalreporter.line(f"{nodeid.partition('[')[2].partition(']')[0]}: {value}")
