"""The stand-in against what others know: Stripe's own encoder and types, and plain fractions for its sums."""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import parse_qsl, urlencode

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st
from stripe import params as typed
from stripe._encode import _api_encode
from stripe.params.v2 import core as typed_v2

from metering.stripe_sync import standin as package
from metering.stripe_sync.standin.app import ENDPOINTS
from metering.stripe_sync.standin.params import nest
from metering.stripe_sync.standin.rules import Either, Many, Record, Rule, Unserved
from metering.stripe_sync.standin.usage import Event, aggregate
from metering.stripe_sync.standin.version import API_VERSION
from tests.factories.standin import InProcessStandin, make_meter, report, summaries

PARAMETER_TYPES = {
    ("GET", "/v1/account"): typed.AccountRetrieveCurrentParams,
    ("POST", "/v1/customers"): typed.CustomerCreateParams,
    ("GET", "/v1/customers"): typed.CustomerListParams,
    ("GET", "/v1/customers/search"): typed.CustomerSearchParams,
    ("GET", "/v1/customers/<id>"): typed.CustomerRetrieveParams,
    ("POST", "/v1/customers/<id>"): typed.CustomerUpdateParams,
    ("POST", "/v1/billing/meters"): typed.billing.MeterCreateParams,
    ("GET", "/v1/billing/meters"): typed.billing.MeterListParams,
    ("GET", "/v1/billing/meters/<id>"): typed.billing.MeterRetrieveParams,
    ("POST", "/v1/billing/meters/<id>"): typed.billing.MeterUpdateParams,
    ("POST", "/v1/billing/meters/<id>/deactivate"): typed.billing.MeterDeactivateParams,
    ("POST", "/v1/billing/meters/<id>/reactivate"): typed.billing.MeterReactivateParams,
    ("POST", "/v1/billing/meter_events"): typed.billing.MeterEventCreateParams,
    ("GET", "/v1/billing/meters/<id>/event_summaries"): typed.billing.MeterEventSummaryListParams,
    ("POST", "/v1/billing/meter_event_adjustments"): typed.billing.MeterEventAdjustmentCreateParams,
    ("POST", "/v1/checkout/sessions"): typed.checkout.SessionCreateParams,
    ("GET", "/v1/checkout/sessions"): typed.checkout.SessionListParams,
    ("GET", "/v1/checkout/sessions/<id>"): typed.checkout.SessionRetrieveParams,
    ("POST", "/v1/checkout/sessions/<id>/expire"): typed.checkout.SessionExpireParams,
    ("GET", "/v1/checkout/sessions/<id>/line_items"): typed.checkout.SessionListLineItemsParams,
    ("POST", "/v1/billing_portal/sessions"): typed.billing_portal.SessionCreateParams,
    ("GET", "/v1/events"): typed.EventListParams,
    ("GET", "/v1/events/<id>"): typed.EventRetrieveParams,
    ("POST", "/v1/webhook_endpoints"): typed.WebhookEndpointCreateParams,
    ("GET", "/v2/core/events"): typed_v2.EventListParams,
    ("GET", "/v2/core/events/<id>"): typed_v2.EventRetrieveParams,
    ("POST", "/v2/core/event_destinations"): typed_v2.EventDestinationCreateParams,
    ("GET", "/v2/core/event_destinations"): typed_v2.EventDestinationListParams,
    ("GET", "/v2/core/event_destinations/<id>"): typed_v2.EventDestinationRetrieveParams,
    ("POST", "/v2/core/event_destinations/<id>"): typed_v2.EventDestinationUpdateParams,
    ("DELETE", "/v2/core/event_destinations/<id>"): typed_v2.EventDestinationDeleteParams,
    ("POST", "/v2/core/event_destinations/<id>/disable"): typed_v2.EventDestinationDisableParams,
    ("POST", "/v2/core/event_destinations/<id>/enable"): typed_v2.EventDestinationEnableParams,
    ("POST", "/v2/core/event_destinations/<id>/ping"): typed_v2.EventDestinationPingParams,
    ("GET", "/v1/webhook_endpoints"): typed.WebhookEndpointListParams,
    ("GET", "/v1/webhook_endpoints/<id>"): typed.WebhookEndpointRetrieveParams,
    ("POST", "/v1/webhook_endpoints/<id>"): typed.WebhookEndpointUpdateParams,
    ("DELETE", "/v1/webhook_endpoints/<id>"): typed.WebhookEndpointDeleteParams,
    ("POST", "/v1/products"): typed.ProductCreateParams,
    ("GET", "/v1/products"): typed.ProductListParams,
    ("GET", "/v1/products/<id>"): typed.ProductRetrieveParams,
    ("POST", "/v1/products/<id>"): typed.ProductUpdateParams,
    ("POST", "/v1/prices"): typed.PriceCreateParams,
    ("GET", "/v1/prices"): typed.PriceListParams,
    ("GET", "/v1/prices/<id>"): typed.PriceRetrieveParams,
    ("POST", "/v1/prices/<id>"): typed.PriceUpdateParams,
    ("POST", "/v1/subscriptions"): typed.SubscriptionCreateParams,
    ("GET", "/v1/subscriptions"): typed.SubscriptionListParams,
    ("GET", "/v1/subscriptions/<id>"): typed.SubscriptionRetrieveParams,
    ("POST", "/v1/subscriptions/<id>"): typed.SubscriptionUpdateParams,
    ("DELETE", "/v1/subscriptions/<id>"): typed.SubscriptionCancelParams,
    ("POST", "/v1/subscriptions/<id>/resume"): typed.SubscriptionResumeParams,
    ("POST", "/v1/subscription_items"): typed.SubscriptionItemCreateParams,
    ("GET", "/v1/subscription_items"): typed.SubscriptionItemListParams,
    ("GET", "/v1/subscription_items/<id>"): typed.SubscriptionItemRetrieveParams,
    ("POST", "/v1/subscription_items/<id>"): typed.SubscriptionItemUpdateParams,
    ("DELETE", "/v1/subscription_items/<id>"): typed.SubscriptionItemDeleteParams,
    ("POST", "/v1/invoices/create_preview"): typed.InvoiceCreatePreviewParams,
    ("GET", "/v1/invoices"): typed.InvoiceListParams,
    ("GET", "/v1/invoices/<id>"): typed.InvoiceRetrieveParams,
    ("GET", "/v1/invoices/<id>/lines"): typed.InvoiceLineItemListParams,
    ("POST", "/v1/invoices/<id>/finalize"): typed.InvoiceFinalizeInvoiceParams,
    ("POST", "/v1/invoices/<id>/pay"): typed.InvoicePayParams,
    ("POST", "/v1/invoices/<id>/void"): typed.InvoiceVoidInvoiceParams,
    ("POST", "/v1/invoices/<id>/mark_uncollectible"): typed.InvoiceMarkUncollectibleParams,
    ("POST", "/v1/test_helpers/test_clocks"): typed.test_helpers.TestClockCreateParams,
    ("GET", "/v1/test_helpers/test_clocks"): typed.test_helpers.TestClockListParams,
    ("GET", "/v1/test_helpers/test_clocks/<id>"): typed.test_helpers.TestClockRetrieveParams,
    ("POST", "/v1/test_helpers/test_clocks/<id>/advance"): typed.test_helpers.TestClockAdvanceParams,
}

# A client follows the URL of the next page as it is, so the library's types of API v2 don't have what it carries.
FIELDS_OF_PAGE_URLS = {"page"}

# What the options that every parameter type inherits are annotated with, which its own module need not import.
OPTION_TYPES = {"StripeContext": stripe.StripeContext, "Mapping": Mapping}


def nested_types(hint: Any) -> list[Any]:
    """The TypedDicts inside an annotation such as `NotRequired[Literal[''] | List[SomeParams]]`."""
    if hasattr(hint, "__required_keys__"):
        return [hint]
    return [found for inner in getattr(hint, "__args__", ()) for found in nested_types(inner)]


def nested_record(rule: Rule) -> Record | None:
    if isinstance(rule, Record):
        return rule
    if isinstance(rule, Many):
        return nested_record(rule.item)
    return rule.record if isinstance(rule, Either) else None


def assert_same_parameters(record: Record, kind: Any, where: str) -> None:
    options = stripe.RequestOptions.__annotations__
    hints = {name: hint for name, hint in get_type_hints(kind, localns=OPTION_TYPES).items() if name not in options}
    assert set(record.fields) == set(hints), where
    assert set(record.required) == kind.__required_keys__ - set(options), where
    for name, hint in hints.items():
        if isinstance(record.fields[name], Unserved):
            continue
        inner = nested_record(record.fields[name])
        for inner_kind in nested_types(hint):
            assert inner is not None, f"{where}[{name}]"
            assert_same_parameters(inner, inner_kind, f"{where}[{name}]")


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: f"{endpoint.method} {endpoint.path}")
def test_every_endpoint_takes_and_requires_what_stripes_library_sends(endpoint):
    kind = PARAMETER_TYPES[endpoint.method, endpoint.path]
    if endpoint.path.startswith("/v2/"):
        fields = {name: rule for name, rule in endpoint.params.fields.items() if name not in FIELDS_OF_PAGE_URLS}
        assert_same_parameters(Record(fields, endpoint.params.required), kind, endpoint.path)
        return

    assert_same_parameters(endpoint.params, kind, endpoint.path)


def test_answers_have_the_fields_of_stripes_sample_objects_and_none_that_stripe_does_not_know(tmp_path):
    standin = InProcessStandin(tmp_path, 1_800_000_000)
    client = standin.client()
    customer = client.v1.customers.create()
    meter = make_meter(client, "api_call")
    event = report(client, customer.id, 1_800_000_000, identifier="e")
    adjustment = client.v1.billing.meter_event_adjustments.create(
        {"event_name": "api_call", "type": "cancel", "cancel": {"identifier": "e"}}
    )
    product = client.v1.products.create({"name": "T-shirt"})
    price = client.v1.prices.create(
        {"currency": "usd", "product": product.id, "unit_amount": 2000, "recurring": {"interval": "month"}}
    )
    clock = client.v1.test_helpers.test_clocks.create({"frozen_time": 1_800_000_000})
    subscription = client.v1.subscriptions.create({"customer": customer.id, "items": [{"price": price.id}]})
    (item,) = client.v1.subscription_items.list({"subscription": subscription.id}).data
    invoice = client.v1.invoices.retrieve(str(subscription.latest_invoice))
    (line,) = invoice.lines.data
    checkout = client.v1.checkout.sessions.create(
        {
            "mode": "subscription",
            "line_items": [{"price": price.id, "quantity": 1}],
            "success_url": "https://example.com",
        }
    )
    portal = client.v1.billing_portal.sessions.create({"customer": customer.id})
    endpoint = client.v1.webhook_endpoints.create({"url": "https://example.com", "enabled_events": ["*"]})
    announced = client.v1.events.list().data[0]
    (summary,) = summaries(client, meter.id, customer.id, 1_800_000_000, 1_800_000_060).data
    standin.close()

    sample_fields = (
        (
            customer,
            "address balance created currency default_source delinquent description discount email id invoice_prefix "
            "invoice_settings livemode metadata name next_invoice_sequence object phone preferred_locales shipping "
            "tax_exempt test_clock",
        ),
        (
            meter,
            "created customer_mapping default_aggregation display_name event_name event_time_window id livemode object "
            "status status_transitions updated value_settings",
        ),
        (event, "created event_name identifier livemode object payload timestamp"),
        (adjustment, "cancel event_name livemode object status type"),
        (
            product,
            "active created default_price description id images livemode marketing_features metadata name object "
            "package_dimensions shippable statement_descriptor tax_code type unit_label updated url",
        ),
        (
            price,
            "active billing_scheme created currency custom_unit_amount id livemode lookup_key metadata nickname object "
            "product recurring tax_behavior tiers_mode transform_quantity type unit_amount unit_amount_decimal",
        ),
        (
            subscription,
            "application application_fee_percent automatic_tax billing_cycle_anchor billing_cycle_anchor_config "
            "billing_mode billing_schedules billing_thresholds cancel_at cancel_at_period_end canceled_at "
            "cancellation_details collection_method created currency customer customer_account days_until_due "
            "default_payment_method default_source default_tax_rates description discounts ended_at id "
            "invoice_settings items latest_invoice livemode managed_payments metadata "
            "next_pending_invoice_item_invoice object on_behalf_of pause_collection payment_settings "
            "pending_invoice_item_interval pending_setup_intent pending_update schedule start_date status test_clock "
            "transfer_data trial_end trial_settings trial_start",
        ),
        (
            item,
            "billing_thresholds created current_period_end current_period_start discounts id metadata object plan "
            "price quantity subscription tax_rates",
        ),
        (
            item.plan,
            "active amount amount_decimal billing_scheme created currency id interval interval_count livemode metadata "
            "meter nickname object product tiers_mode transform_usage trial_period_days usage_type",
        ),
        (
            invoice,
            "account_country account_name account_tax_ids amount_due amount_overpaid amount_paid amount_remaining "
            "amount_shipping application attempt_count attempted auto_advance automatic_tax automatically_finalizes_at "
            "billing_reason collection_method created currency custom_fields customer customer_account "
            "customer_address customer_email customer_name customer_phone customer_shipping customer_tax_exempt "
            "customer_tax_ids default_payment_method default_source default_tax_rates description discounts due_date "
            "effective_at ending_balance footer from_invoice hosted_invoice_url id invoice_pdf issuer "
            "last_finalization_error latest_revision lines livemode metadata next_payment_attempt number object "
            "on_behalf_of parent payment_settings period_end period_start post_payment_credit_notes_amount "
            "pre_payment_credit_notes_amount receipt_number rendering shipping_cost shipping_details starting_balance "
            "statement_descriptor status status_transitions subtotal subtotal_excluding_tax test_clock total "
            "total_discount_amounts total_excluding_tax total_pretax_credit_amounts total_taxes webhooks_delivered_at",
        ),
        (
            line,
            "amount currency description discount_amounts discountable discounts id invoice livemode metadata object "
            "parent period pretax_credit_amounts pricing quantity quantity_decimal subscription subtotal taxes",
        ),
        (clock, "created deletes_after frozen_time id livemode name object status status_details"),
        (
            checkout,
            "adaptive_pricing after_expiration allow_promotion_codes amount_subtotal amount_total automatic_tax "
            "billing_address_collection cancel_url client_reference_id client_secret collected_information "
            "consent consent_collection created currency currency_conversion custom_fields custom_text customer "
            "customer_account customer_creation customer_details customer_email discounts expires_at id "
            "integration_identifier invoice invoice_creation livemode locale managed_payments metadata mode "
            "object origin_context payment_intent payment_link payment_method_collection "
            "payment_method_configuration_details payment_method_options payment_method_types payment_status "
            "permissions phone_number_collection recovered_from saved_payment_method_options setup_intent "
            "shipping_address_collection shipping_cost shipping_options status submit_type subscription "
            "success_url total_details ui_mode url wallet_options",
        ),
        (
            portal,
            "configuration created customer customer_account flow id livemode locale object on_behalf_of "
            "return_url url",
        ),
        (
            endpoint,
            "api_version application created description enabled_events id livemode metadata object secret status url",
        ),
        (announced, "api_version created data id livemode object pending_webhooks request type"),
        (summary, "aggregated_value end_time id livemode meter object start_time"),
    )
    for answered, fields in sample_fields:
        assert set(answered.to_dict()) == set(fields.split())
        assert set(answered.to_dict()) <= set(type(answered).__annotations__)
        assert answered.to_dict().get("livemode", False) is False


def test_it_speaks_the_api_version_of_the_library():
    assert stripe.api_version == API_VERSION


def test_it_imports_nothing_but_the_standard_library_and_flask():
    allowed = {*sys.stdlib_module_names, "flask", "werkzeug", "_typeshed"}
    imported: set[str] = set()
    for module in Path(package.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module or "")

    strangers = {name for name in imported if name.partition(".")[0] not in allowed}
    assert all(name.startswith("metering.stripe_sync.standin") for name in strangers), strangers


names = st.text("abcdefgh_", min_size=1, max_size=6)
values = st.recursive(
    st.text("aZ9 é&=%[]+", max_size=6),
    lambda inner: st.dictionaries(names, inner, min_size=1, max_size=3) | st.lists(inner, min_size=1, max_size=3),
    max_leaves=8,
)


def as_hashes(value: Any) -> Any:
    if isinstance(value, list):
        return {str(index): as_hashes(item) for index, item in enumerate(value)}
    return {key: as_hashes(item) for key, item in value.items()} if isinstance(value, dict) else value


@given(st.dictionaries(names, values, max_size=4))
def test_what_stripes_encoder_writes_is_read_back(params):
    form = urlencode(list(_api_encode(params)))

    assert nest(parse_qsl(form, keep_blank_values=True)) == as_hashes(params)


def test_lists_with_empty_brackets_keep_their_order():
    assert nest([("expand[]", "a"), ("expand[]", "b")]) == {"expand": {"0": "a", "1": "b"}}


@given(st.lists(st.decimals(allow_nan=False, allow_infinity=False, places=9, min_value=-(10**6), max_value=10**6)))
def test_sums_are_exact(amounts):
    events = [Event(str(n), str(n), "e", "m", "c", amount, n, float(n), None, None) for n, amount in enumerate(amounts)]

    assert Fraction(aggregate("sum", events)) == sum(map(Fraction, amounts))
    assert aggregate("count", events) == len(amounts)
    assert aggregate("last", events) == (amounts[-1] if amounts else 0)
