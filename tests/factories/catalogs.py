"""The catalog with a plan changed, as another file of it would say."""

from metering.catalog import Catalog, Limit, Rates


def with_limit(catalog: Catalog, plan_key: str, **limits: object) -> Catalog:
    """Other limits in a plan; None takes a limit away."""
    plan = catalog.plans[plan_key]
    kept = {key: limit for key, limit in plan.limits.items() if key not in limits}
    new = {key: Limit.model_validate(limit) for key, limit in limits.items() if limit is not None}
    return _with_plan(catalog, plan_key, limits=kept | new)


def with_rate(catalog: Catalog, plan_key: str, **rates: object) -> Catalog:
    """Rates in a plan, as the file writes them: `customer=` and `key=`."""
    return _with_plan(catalog, plan_key, rate=Rates.model_validate(rates))


def _with_plan(catalog: Catalog, plan_key: str, **changed: object) -> Catalog:
    plan = catalog.plans[plan_key].model_copy(update=changed)
    return catalog.model_copy(update={"plans": {**catalog.plans, plan_key: plan}})
