"""A small product that was there before metering came to it."""
