"""How it looks from Python when PostgreSQL is away."""

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeout)
