"""A copy of a catalog's noun is what its own fields say, not what was computed from those of the original."""

from metering.catalog import Catalog


def test_what_was_computed_is_not_copied(catalog: Catalog) -> None:
    tokens = catalog.meters["tokens"]
    assert (tokens.is_level, tokens.counts_live) == (False, True)

    level = tokens.model_copy(update={"kind": "level", "aggregation": "latest", "bills_as": "maximum"})
    average = tokens.model_copy(update={"aggregation": "avg"})

    assert (level.is_level, level.counts_live) == (True, True)
    assert (average.is_level, average.counts_live) == (False, False)
    assert tokens == tokens.model_copy()


def test_the_meters_of_a_copied_catalog_are_its_own(catalog: Catalog) -> None:
    assert set(catalog.meters_by_event_type) == set(catalog.meters)

    fewer = catalog.model_copy(update={"meters": {"tokens": catalog.meters["tokens"]}})

    assert set(fewer.meters_by_event_type) == {"tokens"}
