"""How usage flows: what operators and their monitoring look at first."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from metering.models import Correction, HeldEvent, Inbox, Mail, PartitionRow, SetAside, WebhookDelivery
from metering.store.backlog import Backlog, backlogs


@dataclass(frozen=True, slots=True)
class Flow:
    """`backlog_entries` wait in the streams, the oldest since `lag_seconds`. None: nobody knows while Redis is away."""

    redis_up: bool
    backlog_entries: int | None
    lag_seconds: float | None
    lost_partitions: int | None
    set_aside: int
    inbox: int
    held: int
    corrections: int
    mails_waiting: int
    mails_failed: int
    webhooks_waiting: int

    def gauges(self) -> Iterator[tuple[str, float, str]]:
        """Name, value and meaning of each figure that is known."""
        figures = (
            ("redis_up", float(self.redis_up), "1 when Redis answers"),
            ("backlog_entries", self.backlog_entries, "Stream entries that are not in PostgreSQL yet"),
            ("drain_lag_seconds", self.lag_seconds, "Age of the oldest entry that is not in PostgreSQL yet"),
            ("lost_partitions", self.lost_partitions, "Partitions whose live counters wait to be rebuilt"),
            ("set_aside_messages", self.set_aside, "Messages set aside that nobody has decided on"),
            ("inbox_events", self.inbox, "Events that wait in PostgreSQL for Redis"),
            ("held_events", self.held, "Events that wait for their customer or meter to be made"),
            ("pending_corrections", self.corrections, "Corrections of live counters not applied yet"),
            ("mails_waiting", self.mails_waiting, "E-mails that are to be sent or tried again"),
            ("mails_failed", self.mails_failed, "E-mails that were given up"),
            ("webhooks_waiting", self.webhooks_waiting, "Webhooks that are to be sent or tried again"),
        )
        for name, value, meaning in figures:
            if value is not None:
                yield name, value, meaning


def flow(session: Session, redis: Redis, *, now: datetime) -> Flow:
    """Never raises for a Redis that is away: that is one of the things it tells."""
    partitions = session.scalars(select(PartitionRow).order_by(PartitionRow.partition)).all()
    try:
        found = backlogs(redis, partitions)
    except RedisError:
        found = None
    return Flow(
        redis_up=found is not None,
        backlog_entries=None if found is None else sum(one.entries for one in found),
        lag_seconds=None if found is None else max((_age(one, now) for one in found), default=0.0),
        lost_partitions=None if found is None else sum(one.lost for one in found),
        set_aside=_count(session, select(func.count()).where(SetAside.resolved_at.is_(None))),
        inbox=_count(session, select(func.count(Inbox.id))),
        held=_count(session, select(func.count(HeldEvent.id))),
        corrections=_count(session, select(func.count(Correction.id))),
        mails_waiting=_count(session, select(func.count(Mail.id)).where(Mail.next_try_at.is_not(None))),
        mails_failed=_count(
            session, select(func.count(Mail.id)).where(Mail.next_try_at.is_(None), Mail.sent_at.is_(None))
        ),
        webhooks_waiting=_count(
            session, select(func.count(WebhookDelivery.id)).where(WebhookDelivery.next_try_at.is_not(None))
        ),
    )


def _age(backlog: Backlog, now: datetime) -> float:
    return 0.0 if backlog.oldest is None else max(0.0, (now - backlog.oldest).total_seconds())


def _count(session: Session, query: Select[int]) -> int:
    return session.scalar(query) or 0
