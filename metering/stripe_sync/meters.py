"""Which Stripe meter stands for which of ours. Only meters with such a link are reported.

Always holds: a link, once anything was reported over it, leads to the same Stripe meter for good; from the moment of
a link on, every change of the meter's usage is noted for the ledger, and what was there before is noted with it.
"""

from collections.abc import Collection, Mapping
from decimal import Decimal
from types import MappingProxyType

from sqlalchemy import exists, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from metering.catalog import Catalog, Meter
from metering.errors import ConfigurationError
from metering.models import MeterRow, StripeMeter, StripePrice, StripeReport
from metering.store.meters import meter_ids
from metering.stripe_sync.gateway import MeterAtStripe, NoSuchMeter, StripeGateway
from metering.stripe_sync.sql import statement
from metering.stripe_sync.terms import SCALED_UNIT

NO_UNITS: Mapping[str, Decimal] = MappingProxyType({})


def is_reported(meter: Meter) -> bool:
    """Whether a meter's hours add up to what is billed: sums and counts do, and levels by their accruals."""
    return meter.counts_live


def ids_from(environ: Mapping[str, str], catalog: Catalog) -> dict[str, str]:
    """Stripe's meter ids by the key of our meter.

    The rule: `STRIPE_<KEY>_METER_ID`, the key in capitals; a key may also stand in its plural, with an S behind it,
    unless that is the name of another meter: `STRIPE_API_CALLS_METER_ID` is for `api_call`.

    Raises:
        ConfigurationError: two variables name different meters for one of ours, or two of ours share one.
    """
    found: dict[str, str] = {}
    for key in catalog.meters:
        names = [_variable(key)] + ([_variable(f"{key}s")] if f"{key}s" not in catalog.meters else [])
        ids = {environ[name] for name in names if environ.get(name)}
        if len(ids) > 1:
            raise ConfigurationError(f"{' and '.join(names)} name different meters")
        if ids:
            found[key] = ids.pop()
    for key, id in found.items():
        sharing = [other for other, shared in found.items() if shared == id]
        if len(sharing) > 1:
            raise ConfigurationError(f"{_variable(key)}: {id} would count all of {', '.join(sharing)}")
    return found


def find_meters(
    gateway: StripeGateway,
    catalog: Catalog,
    environ: Mapping[str, str],
    *,
    create: bool,
    linked: Collection[str] = (),
) -> dict[str, MeterAtStripe]:
    """Ask Stripe for the meters that the environment names; with `create` find or make the others by event name.

    One of `linked` (Stripe's ids) that was deactivated since stays what it is: Stripe refuses its usage, whose rows are
    parked, and that of other meters goes on.

    Raises:
        ConfigurationError: a meter that is named does not add up what it gets, takes nothing, or is not there.
        StripeFailed: Stripe did not answer.
    """
    ids = ids_from(environ, catalog)
    found: dict[str, MeterAtStripe] = {}
    for meter in filter(is_reported, catalog.meters.values()):
        if meter.key in ids:
            found[meter.key] = usable(meter.key, named_meter(gateway, meter.key, ids[meter.key]), linked)
        elif create:
            found[meter.key] = usable(meter.key, gateway.find_or_create_meter(meter.key, meter.name), linked)
    return found


def named_meter(gateway: StripeGateway, key: str, id: str) -> MeterAtStripe:
    """The meter that the environment names for one of ours. Raises ConfigurationError where there is none."""
    try:
        return gateway.meter(id)
    except NoSuchMeter:
        raise ConfigurationError(
            f"{_variable(key)}: Stripe knows no meter {id} in {gateway.account}: name one of this account and mode"
        ) from None


def link_meters(
    session: Session, account: str, meters: Mapping[str, MeterAtStripe], units: Mapping[str, Decimal] = NO_UNITS
) -> int:
    """Write down the links, in the caller's transaction; how many are new, lead elsewhere or count otherwise now.

    `units` says how many scaled units a Stripe meter counts as one, where that is not 1 (`stripe_sync.units`); once a
    meter has a price at Stripe, or anything was reported over its link, its unit stays. What was used before is noted
    for the ledger, so that it is owed; writers of usage wait meanwhile.

    Raises:
        ConfigurationError: usage was already reported to another meter than the one that is named now.
    """
    ids = meter_ids(session)
    wanted = {ids[key]: (meter, units.get(key, SCALED_UNIT)) for key, meter in sorted(meters.items())}
    if not _changed(session, account, wanted):
        return 0
    # A writer that is under way has not seen the link, and what it writes is not seen here: wait for it. Then for rows
    # that are being made in the unit of before; should both wait for each other, one fails and is tried again.
    session.execute(text("LOCK TABLE rollups, accruals, stripe_reports IN SHARE MODE"))
    new = _changed(session, account, wanted)
    if not new:
        return 0
    _refuse_to_move(session, account, {id: wanted[id][0] for id in new})
    values = [_values(account, id, *wanted[id]) for id in new]
    link = insert(StripeMeter).values(values)
    session.execute(
        link.on_conflict_do_update(
            index_elements=["account", "meter_id"],
            set_={name: link.excluded[name] for name in values[0] if name not in ("account", "meter_id")},
        )
    )
    session.execute(statement("note_all_hours"), {"account": account, "meter_ids": new})
    return len(new)


def links_of(session: Session, account: str) -> dict[str, StripeMeter]:
    """The links of an account by the key of our meter."""
    query = (
        select(StripeMeter, MeterRow.key)
        .join(MeterRow, MeterRow.id == StripeMeter.meter_id)
        .where(StripeMeter.account == account)
        .execution_options(populate_existing=True)
    )
    return {key: link for link, key in session.execute(query)}


def is_settled(session: Session, link: StripeMeter) -> bool:
    """Whether what it counts as one must stay: it was reported in, or a subscription may hold a price made for it."""
    priced = exists().where(
        StripePrice.account == link.account, StripePrice.meter == MeterRow.key, MeterRow.id == link.meter_id
    )
    return bool(session.scalar(select(priced))) or was_reported(session, link)


def was_reported(session: Session, link: StripeMeter) -> bool:
    """Whether Stripe was told, or will be, of anything over a link."""
    reported = exists().where(StripeReport.account == link.account, StripeReport.meter_id == link.meter_id)
    return bool(session.scalar(select(reported)))


def _changed(session: Session, account: str, wanted: Mapping[int, tuple[MeterAtStripe, Decimal]]) -> list[int]:
    """Which of our meters have no link yet, or one that leads elsewhere, or counts otherwise and still may."""
    known = {link.meter_id: link for link in links_of(session, account).values()}
    return [id for id, to in wanted.items() if id not in known or _differs(session, known[id], *to)]


def _differs(session: Session, link: StripeMeter, meter: MeterAtStripe, unit: Decimal) -> bool:
    return link.stripe_id != meter.id or (link.unit != unit and not is_settled(session, link))


def _refuse_to_move(session: Session, account: str, meters: Mapping[int, MeterAtStripe]) -> None:
    for link in links_of(session, account).values():
        to = meters.get(link.meter_id)
        if to is not None and to.id != link.stripe_id and was_reported(session, link):
            raise ConfigurationError(
                f"usage was already reported to the Stripe meter {link.stripe_id} ({link.event_name}); reporting what "
                "follows to another one would split its bill: set the id that was set before, or define a new meter"
            )


def usable(key: str, meter: MeterAtStripe, linked: Collection[str] = ()) -> MeterAtStripe:
    """The meter itself. Raises ConfigurationError where it cannot count ours."""
    if meter.formula != "sum":
        raise ConfigurationError(f"the Stripe meter {meter.id} for {key} must add up (sum), not {meter.formula}")
    if not meter.active and meter.id not in linked:
        raise ConfigurationError(
            f"the Stripe meter {meter.id} for {key} is not active: it takes no usage. Reactivate it at Stripe (in its "
            f"dashboard under Meters), or name another one in {_variable(key)}; a second one is not made"
        )
    return meter


def _variable(key: str) -> str:
    return f"STRIPE_{key.upper()}_METER_ID"


def _values(account: str, meter_id: int, meter: MeterAtStripe, unit: Decimal) -> dict[str, object]:
    return {
        "account": account,
        "meter_id": meter_id,
        "stripe_id": meter.id,
        "event_name": meter.event_name,
        "customer_payload_key": meter.customer_payload_key,
        "value_payload_key": meter.value_payload_key,
        "unit": unit,
    }
