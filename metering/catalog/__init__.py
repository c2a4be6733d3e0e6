"""What is sold: meters, prices and plans, from one versioned file that is checked when it is loaded."""

from metering.catalog.loader import load_catalog
from metering.catalog.schema import Catalog, Limit, Meter, Plan, Price, Rate, Rates, Tier

__all__ = ["Catalog", "Limit", "Meter", "Plan", "Price", "Rate", "Rates", "Tier", "load_catalog"]
