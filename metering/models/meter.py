"""The meters as rows, so that usage can refer to them. The catalog file says what they are; a meter that it does not
name, made at run time, is what its row says.
"""

from typing import Any

from sqlalchemy import CheckConstraint, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from metering.extensions import Model
from metering.models.columns import CreatedAt, KeyText, RowId


class MeterRow(Model):
    """`aggregation`, `kind` and `scale` give stored numbers their meaning and never change once used.

    `origin` says who made it: `catalog` or `api`. One made by the API stays known if a file that named it later no
    longer does; one that only a file ever named goes with it.
    """

    __tablename__ = "meters"
    __table_args__ = (CheckConstraint("origin IN ('catalog', 'api')", name="origin"),)

    id: Mapped[RowId]
    key: Mapped[KeyText] = mapped_column(unique=True)
    aggregation: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    scale: Mapped[int]
    definition: Mapped[dict[str, Any]] = mapped_column(JSONB)
    origin: Mapped[str] = mapped_column(Text, server_default="catalog")
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]
