"""Alembic's environment: runs on the connection it is handed (`store.schema.upgrade`), never on settings of its own."""

from alembic import context

import metering.models  # noqa: F401 - registers the tables
from metering.extensions import db

# Partitions of partitioned tables are made by the schema's own functions, not by the models.
PARTITIONS = ("identities_", "events_")


def include_object(item: object, name: str | None, kind: str, reflected: bool, _: object) -> bool:
    return not (kind == "table" and reflected and name is not None and name.startswith(PARTITIONS))


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=db.metadata,
    include_object=include_object,
    compare_server_default=False,
)
with context.begin_transaction():
    context.run_migrations()
