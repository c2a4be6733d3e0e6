"""When API keys were last used: noted in Redis with each call, carried into PostgreSQL every now and then."""

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.orm import Session

from metering.clock import from_micros
from metering.errors import IntakeUnavailable
from metering.intake import scripts


def carry_last_used(session: Session, redis: Redis, partitions: int) -> int:
    """How many keys were used since they were last asked for. Raises IntakeUnavailable."""
    try:
        pipe = redis.pipeline(transaction=False)
        for partition in range(partitions):
            pipe.hgetall(scripts.prefix(partition) + "seen")
        seen = {int(key): from_micros(int(at)) for answer in pipe.execute() for key, at in answer.items()}
    except RedisError as error:
        raise IntakeUnavailable("Redis did not answer") from error
    if seen:
        session.execute(
            text("""
                UPDATE api_keys k SET last_used_at = s.at
                FROM unnest(CAST(:ids AS bigint[]), CAST(:at AS timestamptz[])) AS s (id, at)
                WHERE k.id = s.id AND (k.last_used_at IS NULL OR k.last_used_at < s.at)
            """),
            {"ids": list(seen), "at": list(seen.values())},
        )
    return len(seen)
