"""One-time codes by time, as authenticator apps show them.

Source: RFC 6238 over RFC 4226: HMAC-SHA-1 of the number of the half minute, cut to six digits. SHA-1 is what all apps
do; collisions of it do not help who wants to guess an HMAC.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from datetime import datetime
from urllib.parse import quote

PERIOD = 30
"""How long a code is shown, in seconds."""
WINDOW = 1
"""How many codes before and after the present one are taken, because clocks differ."""
_BYTES = 20


def new_secret() -> str:
    """A new secret of 160 bits (RFC 4226, section 4), in the base32 that apps are given."""
    return base64.b32encode(os.urandom(_BYTES)).decode()


def step_at(moment: datetime) -> int:
    """The number of the half minute that a moment lies in."""
    return int(moment.timestamp()) // PERIOD


def code_at(secret: bytes, step: int, *, digits: int = 6, digest: str = "sha1") -> str:
    """The code of a step. ``digest`` is one of RFC 6238's: sha1, sha256, sha512."""
    mac = hmac.digest(secret, step.to_bytes(8, "big"), digest)
    offset = mac[-1] & 15
    return str((int.from_bytes(mac[offset : offset + 4], "big") & 0x7FFFFFFF) % 10**digits).zfill(digits)


def matching_step(secret: str, code: str, moment: datetime) -> int | None:
    """The step whose code this is, at a moment give or take one; None for a wrong one. Takes the same time for all."""
    key, now, found = _key(secret), step_at(moment), None
    given = hashlib.sha256(code.encode("utf-8", "surrogatepass")).digest()
    for step in range(now - WINDOW, now + WINDOW + 1):
        wanted = hashlib.sha256(code_at(key, step).encode()).digest()
        found = step if hmac.compare_digest(given, wanted) else found
    return found if key else None


def _key(secret: str) -> bytes:
    """A secret's bytes, also where another system wrote it in small letters, groups or without padding."""
    plain = "".join(secret.split()).replace("-", "").rstrip("=").upper()
    try:
        return base64.b32decode(plain + "=" * (-len(plain) % 8))
    except ValueError:
        # Nothing: no code fits it.
        return b""


def uri(secret: str, *, issuer: str, account: str) -> str:
    """What a QR code holds for an authenticator app: an "otpauth" URI. It is as secret as the secret."""
    label = f"{quote(issuer, safe='')}:{quote(account, safe='')}"
    return f"otpauth://totp/{label}?secret={secret}&issuer={quote(issuer, safe='')}&digits=6&period={PERIOD}"
