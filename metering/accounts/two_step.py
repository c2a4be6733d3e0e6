"""The second step of a login: codes of an authenticator app (TOTP, RFC 6238), and recovery codes for who has lost it.

Always holds: no code of either kind is taken twice. Whoever calls throttles the tries.
"""

import re
import secrets
from base64 import b32encode
from collections.abc import Collection, Sequence
from datetime import datetime

import pyotp
from pyotp.utils import strings_equal
from sqlalchemy import CursorResult, delete, func, select, update
from sqlalchemy.orm import Session

from metering.errors import Conflict
from metering.ids import key_digest
from metering.models import RecoveryCode, TotpSecret, User

ISSUER = "Metering"
LATE_STEPS = (-1, 0, 1)
"""Of 30 seconds: clocks of telephones go a little wrong."""

RECOVERY_CODES = 10
RECOVERY_BYTES = 10  # 80 bits: too many to be tried against the digests
TOTP_CODE = re.compile(r"[0-9]{6}")


def begin(session: Session, user: User, *, now: datetime) -> TotpSecret:
    """A secret that counts once a first code has confirmed it; it replaces one that waits.

    Raises Conflict where the second step is on.
    """
    waiting = _locked(session, user)
    if waiting is not None and waiting.confirmed_at is not None:
        raise Conflict("the second step is on already")
    if waiting is None:
        waiting = TotpSecret(user_id=user.id)
        session.add(waiting)
    waiting.secret, waiting.created_at = pyotp.random_base32(), now
    session.flush()
    return waiting


def confirm(session: Session, user: User, code: str, *, now: datetime) -> tuple[str, ...] | None:
    """Turn the second step on; the recovery codes, which nobody can read again. None for a wrong code.

    Raises Conflict where nothing waits to be confirmed.
    """
    waiting = _locked(session, user)
    if waiting is None or waiting.confirmed_at is not None:
        raise Conflict("no second step waits to be turned on")
    if not _take(waiting, code, now):
        return None
    waiting.confirmed_at = now
    return new_recovery_codes(session, user)


def check(session: Session, user: User, code: str, *, now: datetime) -> bool:
    """Whether this is a code of the app's, or a recovery code, that was not used before. It is used up by this."""
    written = re.sub(r"[\s-]", "", code)
    if not TOTP_CODE.fullmatch(written):
        return _take_recovery_code(session, user, written, now)
    secret = _locked(session, user)
    return secret is not None and secret.confirmed_at is not None and _take(secret, written, now)


def turn_off(session: Session, user: User) -> None:
    session.execute(delete(TotpSecret).where(TotpSecret.user_id == user.id))
    session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user.id))


def new_recovery_codes(session: Session, user: User) -> tuple[str, ...]:
    """In the place of those there were: "abcd-efgh-ijkl-mnop"."""
    session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user.id))
    codes = tuple(b32encode(secrets.token_bytes(RECOVERY_BYTES)).decode().lower() for _ in range(RECOVERY_CODES))
    session.add_all(RecoveryCode(user_id=user.id, digest=key_digest(code)) for code in codes)
    session.flush()
    return tuple("-".join(re.findall("....", code)) for code in codes)


def recovery_codes_left(session: Session, user: User) -> int:
    unused = select(func.count(RecoveryCode.id)).where(RecoveryCode.user_id == user.id, RecoveryCode.used_at.is_(None))
    return session.scalar(unused) or 0


def find_secret(session: Session, user: User) -> TotpSecret | None:
    return session.scalars(select(TotpSecret).where(TotpSecret.user_id == user.id)).one_or_none()


def is_on(session: Session, user: User) -> bool:
    return bool(who_has_it(session, [user.id]))


def who_has_it(session: Session, user_ids: Collection[int]) -> frozenset[int]:
    """Which of these users log in in two steps."""
    query = select(TotpSecret.user_id).where(TotpSecret.user_id.in_(user_ids), TotpSecret.confirmed_at.is_not(None))
    return frozenset(session.scalars(query))


def address(secret: TotpSecret, user: User) -> str:
    """What the QR code holds (otpauth://)."""
    return pyotp.TOTP(secret.secret).provisioning_uri(name=user.email, issuer_name=ISSUER)


def grouped(secret: TotpSecret) -> Sequence[str]:
    """The secret in fours, for who types it in."""
    return re.findall(".{1,4}", secret.secret)


def _locked(session: Session, user: User) -> TotpSecret | None:
    """As it stands, for this transaction alone to change: of two equal codes at once one is the second."""
    session.scalar(select(User.id).where(User.id == user.id).with_for_update(key_share=True))
    query = select(TotpSecret).where(TotpSecret.user_id == user.id)
    return session.scalars(query.execution_options(populate_existing=True)).one_or_none()


def _take(secret: TotpSecret, code: str, now: datetime) -> bool:
    """Whether the code is that of a step about now, later than the one used last."""
    codes = pyotp.TOTP(secret.secret)
    for step in (codes.timecode(now) + late for late in LATE_STEPS):
        if strings_equal(code.strip().replace(" ", ""), codes.generate_otp(step)):
            if secret.last_step is not None and step <= secret.last_step:
                return False
            secret.last_step = step
            return True
    return False


def _take_recovery_code(session: Session, user: User, code: str, now: datetime) -> bool:
    unused = update(RecoveryCode).where(
        RecoveryCode.user_id == user.id, RecoveryCode.digest == key_digest(code.lower()), RecoveryCode.used_at.is_(None)
    )
    taken = session.execute(unused.values(used_at=now))
    assert isinstance(taken, CursorResult)
    return taken.rowcount == 1
