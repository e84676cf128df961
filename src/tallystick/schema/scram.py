"""SCRAM-SHA-256 verifiers made on the client, so that a password never travels in a statement or reaches a log."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os

from tallystick.errors import Invalid

_ITERATIONS = 4096


def scram_verifier(password: str, *, iterations: int = _ITERATIONS) -> str:
    """What PostgreSQL stores for a password (RFC 5802, RFC 7677; its own text form in pg_authid).

    Raises ``Invalid`` for characters outside printable ASCII, which client libraries normalise in different ways.
    """
    if not password or not password.isascii() or not password.isprintable():
        raise Invalid(
            "A database password is empty or has characters outside printable ASCII.",
            field="password",
            remedy="Use letters, digits and punctuation; 24 or more random characters are best.",
        )
    salt = os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, iterations)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    salt_text, stored_text, server_text = (base64.b64encode(part).decode() for part in (salt, stored_key, server_key))
    return f"SCRAM-SHA-256${iterations}:{salt_text}${stored_text}:{server_text}"
