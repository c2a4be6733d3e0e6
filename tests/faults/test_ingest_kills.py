"""Web and drain are killed during a stream of batches that are sent again until they are acknowledged: each event is
counted once, and the books agree with what the senders wrote down.
"""

import json
from pathlib import Path

from metering.intake.admission import MAX_EVENTS_PER_SCRIPT
from tests.faults import counts
from tests.faults.harness import Clients, read_log, running_product
from tests.faults.test_kills import assert_counted_once

BATCHES = (3, 40, *[3] * 9, MAX_EVENTS_PER_SCRIPT + 20)
"""Their sizes, in turn: the last one takes two scripts."""

KILLS = (
    *(("web", place) for place in ("ingest.looked", "ingest.recorded")),
    *(("drain", place) for place in ("drain.before_trim", "drain.read", "drain.before_commit", "drain.committed")),
    *(("drain", place) for place in ("ingest.looked", "ingest.recorded")),
    *(("web", place) for place in ("drain.before_commit", "drain.committed")),
)
VISITS = (1, 2, 3)
HEADERS = {"Content-Type": "application/cloudevents-batch+json"}


class Senders(Clients):
    """Send batches: each has events of its own, and one of the batch before, as senders that retry do."""

    def _call_on(self, number: int) -> None:
        count, last = 0, []
        while not self._stop.is_set():
            count += 1
            ids = [f"{number}-{count}-{n}" for n in range(BATCHES[count % len(BATCHES)])]
            events = [event(id) for id in ids]
            body = json.dumps([*events, *last]).encode()
            self._until((204,), "POST", "/api/v1/events", body, HEADERS)
            self._note({one["id"]: one["data"]["value"] for one in events})
            last = events[-1:]


def event(id: str) -> dict[str, object]:
    value = sum(map(ord, id)) % 7 + 1
    return {
        **{"specversion": "1.0", "id": id, "source": "senders", "type": "api_call", "subject": "acme"},
        "data": {"value": value, "path": f"/{value}"},
    }


def test_each_acknowledged_event_is_counted_once_whoever_is_killed(tmp_path: Path, record_property) -> None:
    log = tmp_path / "acknowledged"
    with running_product(tmp_path / "home") as product:
        for role in ("web", "drain"):
            product.start(role)
        with Senders(product, log, threads=2) as senders:
            for victim, place in KILLS:
                for nth in VISITS:
                    product.kill_at(victim, place, nth)
        product.stop()
        acknowledged = read_log(log)
        record_property(counts.KILLS, product.told(len(acknowledged), senders.attempts))
        assert len(acknowledged) > MAX_EVENTS_PER_SCRIPT
        assert_counted_once(product, acknowledged)
