"""The meters as rows, so that usage can refer to them; the catalog says what they are."""

from typing import Any

from sqlalchemy import Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from metering.extensions import Model
from metering.models.columns import CreatedAt, KeyText, RowId


class MeterRow(Model):
    """`aggregation`, `kind` and `scale` give stored numbers their meaning and never change once used."""

    __tablename__ = "meters"

    id: Mapped[RowId]
    key: Mapped[KeyText] = mapped_column(unique=True)
    aggregation: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    scale: Mapped[int]
    definition: Mapped[dict[str, Any]] = mapped_column(JSONB)
    created_at: Mapped[CreatedAt]
