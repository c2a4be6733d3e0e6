"""What the sample API keeps for its callers: real files and messages, so that it meters real work."""

from datetime import datetime

from sqlalchemy import BigInteger, DateTime, LargeBinary, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, deferred, mapped_column

from metering.extensions import Model
from metering.models.columns import CustomerId, Instant, KeyText, RowId


class SampleFile(Model):
    """A file of a customer. `size`, in bytes, is its share of the customer's storage level."""

    __tablename__ = "sample_files"

    customer_id: Mapped[CustomerId] = mapped_column(primary_key=True)
    name: Mapped[KeyText] = mapped_column(primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    content: Mapped[bytes] = deferred(mapped_column(LargeBinary))
    written_at: Mapped[Instant]


class SampleMessage(Model):
    """One text to some recipients: as many messages as there are recipients."""

    __tablename__ = "sample_messages"

    id: Mapped[RowId]
    customer_id: Mapped[CustomerId] = mapped_column(index=True)
    recipients: Mapped[list[str]] = mapped_column(ARRAY(Text))
    body: Mapped[str] = mapped_column(Text)
    sent_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
