"""What is typed as a threshold is what it says: as quantities are shown on the pages, they are taken."""

from decimal import Decimal

import pytest

from metering.catalog import load_catalog
from metering.dashboard.threshold_form import ThresholdForm, read

CATALOG = load_catalog()


@pytest.mark.parametrize(
    ("of", "typed", "kind", "value"),
    [
        ("*", "80", "percent", "80"),
        ("*", " 75 % ", "percent", "75"),
        ("tokens", "80%", "percent", "80"),
        ("tokens", "5,000", "quantity", "5000"),
        ("tokens", "5 000 Tokens", "quantity", "5000"),
        ("api_call", "1 API call", "quantity", "1"),
        ("storage_bytes", "2 GB", "quantity", str(2 * 1024**3)),
        ("storage_bytes", "2gib", "quantity", str(2 * 1024**3)),
        ("storage_bytes", "3.2\u00a0GB", "quantity", "3435973837"),  # 3.2 x 1024^3 is 3,435,973,836.8
        ("storage_bytes", "1,500 KB", "quantity", str(1500 * 1024)),
        ("storage_bytes", "500 B", "quantity", "500"),
        ("storage_bytes", "500", "quantity", "500"),
        ("compute_seconds", "0.5", "quantity", "0.5"),
        ("compute_seconds", "90 s", "quantity", "90"),
        ("compute_seconds", "20 minutes", "quantity", "1200"),
        ("compute_seconds", "1\u00a0h 30\u00a0min", "quantity", "5400"),
        ("compute_seconds", "2h 0.5s", "quantity", "7200.5"),
        ("$", "$1,250.50", "money", "1250.50"),
        ("$", "49 usd", "money", "49"),
    ],
)
def test_it_is_taken_as_it_is_shown(of: str, typed: str, kind: str, value: str) -> None:
    found = read(CATALOG, ThresholdForm(of, typed))

    assert (found.kind, found.meter, found.value) == (kind, None if of in "*$" else of, Decimal(value))
