"""Whether what Redis holds of a partition can be believed."""

from collections.abc import Sequence
from typing import Any

from metering.models import PartitionRow


def is_lost(row: PartitionRow, run: str, state: Sequence[Any]) -> bool:
    """Whether what Redis holds of a partition is not what PostgreSQL knows. `state` are its `gen` and `seq`.

    After a restart its sequence may have come to pass the stored one again, from an older copy of the data; so each new
    run of Redis is taken for lost. Rebuilding is exact, and whatever it holds in the stream is stored first.
    """
    generation, sequence = state
    if generation is None or int(generation) != row.generation or row.redis_run != run:
        return True
    return int(sequence or 0) < row.sequence
