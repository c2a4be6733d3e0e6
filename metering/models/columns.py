"""Column types that several tables share."""

from datetime import datetime
from typing import Annotated

from sqlalchemy import BigInteger, DateTime, ForeignKey, Identity, Text, func
from sqlalchemy.dialects.postgresql import TEXT
from sqlalchemy.orm import mapped_column

Instant = Annotated[datetime, mapped_column(DateTime(timezone=True))]
CreatedAt = Annotated[datetime, mapped_column(DateTime(timezone=True), server_default=func.now())]
RowId = Annotated[int, mapped_column(BigInteger, Identity(always=True), primary_key=True)]
Units = Annotated[int, mapped_column(BigInteger)]
Name = Annotated[str, mapped_column(Text)]
# Keys that are compared and ordered, never shown sorted to people: byte order is the fast and stable one.
KeyText = Annotated[str, mapped_column(TEXT(collation="C"))]

CustomerId = Annotated[int, mapped_column(BigInteger, ForeignKey("customers.id"))]
MeterId = Annotated[int, mapped_column(BigInteger, ForeignKey("meters.id"))]
PeriodId = Annotated[int, mapped_column(BigInteger, ForeignKey("periods.id"))]

# Facts arrive by the thousand a second. The drain takes their ids from the very rows a foreign key would look up once
# more for each of them, and `verify` proves them, so facts go without.
CustomerFact = Annotated[int, mapped_column(BigInteger)]
MeterFact = Annotated[int, mapped_column(BigInteger)]
PeriodFact = Annotated[int, mapped_column(BigInteger)]
