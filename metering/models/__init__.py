"""The tables, one noun a file. Nothing but columns and constraints: what is done with them stands elsewhere."""

from metering.models.alert import Alert, AlertThreshold, MailedAlert
from metering.models.api_key import ApiKey
from metering.models.confirmation import EmailChange, Invitation, PasswordReset, SignUp
from metering.models.customer import Customer
from metering.models.event import Event, Identity
from metering.models.held import HeldEvent
from metering.models.intake import AuditEntry, Correction, Inbox, PartitionRow, SetAside
from metering.models.level import Accrual, Level
from metering.models.mail import Mail
from metering.models.meter import MeterRow
from metering.models.period import Period
from metering.models.reconciliation import ReconciledDifference, Reconciliation
from metering.models.rollup import PeriodTotal, Rollup
from metering.models.sample import SampleFile, SampleMessage
from metering.models.stripe import LedgerEntry, StripeMeter, StripeReport, StripeStop
from metering.models.stripe_catalog import StripePrice, StripeProduct
from metering.models.stripe_mirror import Invoice, StripeEvent, StripeSubscription
from metering.models.two_step import RecoveryCode, TotpSecret
from metering.models.user import ROLES, Membership, User
from metering.models.user_session import UserSession
from metering.models.verification import Verification
from metering.models.webhook import WebhookDelivery, WebhookEndpoint, WebhookTry

__all__ = [
    "ROLES",
    "Accrual",
    "Alert",
    "AlertThreshold",
    "ApiKey",
    "AuditEntry",
    "Correction",
    "Customer",
    "EmailChange",
    "Event",
    "HeldEvent",
    "Identity",
    "Inbox",
    "Invitation",
    "Invoice",
    "LedgerEntry",
    "Level",
    "Mail",
    "MailedAlert",
    "Membership",
    "MeterRow",
    "PartitionRow",
    "PasswordReset",
    "Period",
    "PeriodTotal",
    "ReconciledDifference",
    "Reconciliation",
    "RecoveryCode",
    "Rollup",
    "SampleFile",
    "SampleMessage",
    "SetAside",
    "SignUp",
    "StripeEvent",
    "StripeMeter",
    "StripePrice",
    "StripeProduct",
    "StripeReport",
    "StripeStop",
    "StripeSubscription",
    "TotpSecret",
    "User",
    "UserSession",
    "Verification",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookTry",
]
