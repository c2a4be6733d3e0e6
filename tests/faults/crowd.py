"""Real web processes, and clients that know for each call whether it was served."""

import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import orjson

from metering.intake.admission import Intake

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE_SECONDS = 60


class Connection(http.client.HTTPConnection):
    """HTTP over the unix socket of a web process, kept open between calls."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE_SECONDS)
        self.sock.connect(str(self._path))


@dataclass
class Web:
    """One gunicorn with one web process, which its master starts again when it is killed."""

    socket: Path
    master: "subprocess.Popen[bytes]"

    def pid(self) -> int:
        """The web process; waits until it serves."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            assert self.master.poll() is None, "gunicorn ended"
            assert time.monotonic() < deadline, "gunicorn does not serve"
            with closing(Connection(self.socket)) as connection:
                try:
                    status, _, body = self.call(connection, "GET", "/pid", {})
                except (OSError, http.client.HTTPException):
                    time.sleep(0.05)
                    continue
            return int(orjson.loads(body)["pid"]) if status == 200 else 0

    def kill(self) -> None:
        os.kill(self.pid(), signal.SIGKILL)

    @staticmethod
    def call(
        connection: Connection, method: str, path: str, headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        connection.request(method, path, headers=dict(headers))
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


@contextmanager
def web_processes(folder: Path, application: str, count: int, **settings: object) -> Iterator[list[Web]]:
    """`count` web processes that serve `application`, with `METERING_*` settings."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("METERING_")}
    env |= {f"METERING_{name.upper()}": str(value) for name, value in settings.items()}
    env |= {"METERING_ENV": "development", "METERING_HOME": str(folder)}
    webs = []
    try:
        for number in range(count):
            path = folder / f"web{number}.sock"
            command = [sys.executable, "-m", "gunicorn", "--bind", f"unix:{path}", "--workers", "1"]
            command += ["--threads", "32", "--keep-alive", "60", "--log-level", "error", application]
            webs.append(Web(path, subprocess.Popen(command, env=env, cwd=ROOT)))
        for web in webs:
            web.pid()
        yield webs
    finally:
        for web in webs:
            web.master.terminate()
        for web in webs:
            web.master.wait(PATIENCE_SECONDS)


@dataclass(frozen=True)
class Job:
    """One call that must be made until it is known how it ended. `repeats`: it is sent once more, whatever came."""

    key: str
    units: int
    most: int
    tokens: int
    fails: bool
    repeats: bool

    @classmethod
    def drawn(cls, number: int, dice: random.Random) -> "Job":
        most = dice.randint(0, 7)
        return cls(
            key=f"job-{number}",
            units=dice.randint(1, 7),
            most=most,
            tokens=dice.randint(0, most),
            fails=dice.random() < 0.1,
            repeats=dice.random() < 0.15,
        )

    @property
    def path(self) -> str:
        query = f"units={self.units}&most={self.most}&tokens={self.tokens}"
        return f"/work?{query}&fails=1" if self.fails else f"/work?{query}"


@dataclass
class Log:
    """What all clients were told. A job counts once if any of its answers was a success."""

    served: dict[str, Job] = field(default_factory=dict)
    statuses: dict[int, int] = field(default_factory=dict)
    replayed: int = 0
    broken: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, job: Job, status: int, replayed: bool) -> None:
        with self.lock:
            self.statuses[status] = self.statuses.get(status, 0) + 1
            self.replayed += replayed
            if status == 200:
                assert job.key not in self.served or replayed, f"{job.key} was run twice"
                self.served[job.key] = job

    @property
    def calls(self) -> int:
        return sum(self.statuses.values())


@dataclass
class Client:
    """Makes calls over connections of its own, to the web processes in turn."""

    webs: list[Web]
    secret: str
    log: Log

    def __post_init__(self) -> None:
        self._connections = [Connection(web.socket) for web in self.webs]
        self._turn = 0

    def do(self, job: Job) -> None:
        for _ in range(2 if job.repeats else 1):
            self._until_known(job)

    def _until_known(self, job: Job) -> None:
        headers = {"Authorization": f"Bearer {self.secret}", "Idempotency-Key": job.key}
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            assert time.monotonic() < deadline, f"{job.key} never came to an end: {self.log.statuses}"
            self._turn += 1
            connection = self._connections[self._turn % len(self.webs)]
            try:
                status, found, _ = Web.call(connection, "POST", job.path, headers)
            except (OSError, http.client.HTTPException):  # the web process died: was it served or not?
                connection.close()
                with self.log.lock:
                    self.log.broken += 1
                continue
            self.log.note(job, status, "Idempotent-Replayed" in found)
            if status != 409:
                return
            time.sleep(0.05)  # the answer says that the first request still runs, or holds its lease

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


class Sampler:
    """Looks at what is used and held, in one step, all the time."""

    def __init__(self, intake: Intake, customer: str, meters: list[str]) -> None:
        self._intake, self._customer, self._meters = intake, customer, meters
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.samples = 0
        self.most_held = 0
        self.past_limit: list[str] = []

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            for one in self._intake.standing(self._customer, self._meters, now=datetime.now(UTC)).meters:
                assert one.limit is not None
                self.most_held = max(self.most_held, one.held)
                if one.used + one.held > one.limit or one.held < 0:
                    self.past_limit.append(f"{one.meter}: {one.used} used, {one.held} held, limit {one.limit}")
            self.samples += 1
