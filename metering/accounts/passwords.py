"""Passwords, hashed with argon2id by pwdlib's recommended parameters."""

from functools import lru_cache

from pwdlib import PasswordHash

from metering.errors import MeteringError

MIN_LENGTH = 10
MAX_LENGTH = 256  # argon2 would take more, and take its time over it

_hasher = PasswordHash.recommended()


class WeakPassword(MeteringError):
    code = "weak-password"


def hash_password(password: str) -> str:
    """Raises WeakPassword for one that is too short or too long."""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise WeakPassword(f"a password holds {MIN_LENGTH} to {MAX_LENGTH} characters", field="password")
    return _hasher.hash(password)


def verify_password(password: str, stored: str | None) -> bool:
    """Takes as long for an unknown user (None) as for a wrong password, so that nobody learns who has an account."""
    matches = len(password) <= MAX_LENGTH and _hasher.verify(password, stored or _nobody())
    return matches and stored is not None


@lru_cache(maxsize=1)
def _nobody() -> str:
    return _hasher.hash("the password of nobody at all")
