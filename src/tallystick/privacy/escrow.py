"""Escrow: a tenant's keys in a file that officers can open together, and none of them alone.

Each key is split into as many random shares as there are officers, of which all are needed (their exclusive or is the
key), and each share is encrypted to one officer's public key by HPKE (RFC 9180: X25519, HKDF-SHA256, AES-256-GCM) and
bound to tenant, key and officer. The private keys are never where the database or the root key is, so neither the file
nor one officer's key opens anything. An epoch that is ended stays readable to whoever keeps such a file and every
officer's key: escrow files are to be destroyed with the epoch.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TypeGuard
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tallystick.errors import Erased, Invalid, Tampered, Unavailable, Unsupported
from tallystick.privacy.envelope import length_prefixed
from tallystick.privacy.keys import KeyProvider, StoredKeys, context_of
from tallystick.privacy.private_file import read_private, write_private

_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_FORM: Final = "tallystick-escrow/1"
_NAME: Final = re.compile(r"epoch-\d{6}|index")
_MOST_OFFICERS: Final = 16


def create_officer(path: Path) -> Path:
    """Write an officer's private key (mode 0600) and, beside it with ".pub", the public one; answers that file.

    Raises ``Invalid`` when either exists, ``Unavailable``.
    """
    key, public = X25519PrivateKey.generate(), path.with_name(f"{path.name}.pub")
    if public.exists():
        raise Invalid(f"The file {public} exists already.", field="path", remedy="Choose another name.")
    write_private(path, key.private_bytes_raw().hex().encode() + b"\n")
    write_private(public, _raw(key.public_key()).hex().encode() + b"\n")
    return public


def deposit(provider: KeyProvider, tenants: Sequence[UUID], officers: Sequence[Path], file: Path) -> int:
    """Write the living keys of tenants to a new file for officers, named by their public keys; answers how many keys.

    Two officers are what makes it dual control; one is allowed. Raises ``Unsupported`` for a provider whose keys do not
    leave it, ``Invalid``, ``Unavailable``.
    """
    keys = _stored(provider)
    public = [_public(path) for path in officers]
    if not 1 <= len(public) <= _MOST_OFFICERS or len(set(map(_raw, public))) < len(public):
        raise Invalid("Escrow is for 1 to 16 different officers.", field="officers", remedy="Give each key once.")
    lines = [line for tenant in tenants for line in _written(keys, tenant, public)]
    head = json.dumps({"form": _FORM, "officers": [_raw(key).hex() for key in public], "keys": len(lines)})
    write_private(file, "".join(f"{line}\n" for line in (head, *lines)).encode())
    return len(lines)


def _written(keys: StoredKeys, tenant: UUID, officers: list[X25519PublicKey]) -> list[str]:
    lines: list[str] = []
    for name, key in sorted(keys.export(tenant).items()):
        shares = [
            base64.b64encode(_SUITE.encrypt(share, officer, _info(tenant, name, officer))).decode()
            for share, officer in zip(_split(key, len(officers)), officers, strict=True)
        ]
        lines.append(json.dumps({"tenant": str(tenant), "name": name, "shares": shares}))
    return lines


def withdraw(provider: KeyProvider, officers: Sequence[Path], file: Path) -> tuple[int, int]:
    """Bring keys back from a file into the provider's store, with the private keys of all its officers.

    Answers how many were restored and how many were there already; an epoch that was ended is not brought back. Raises
    ``Invalid`` when an officer is missing, ``Tampered`` for a file that was altered or cut short, after what does open
    was brought back: it may be the only copy.
    """
    keys = _stored(provider)
    private = {_raw(key.public_key()).hex(): key for key in map(_private, officers)}
    head, *lines = _lines(file)
    wanted, count = head.get("officers"), head.get("keys")
    # Of no officers, no share would have to open.
    if head.get("form") != _FORM or not isinstance(count, int) or not _are_officers(wanted):
        raise Tampered("The file is no escrow of keys.", remedy="Name the file that `tallystick keys escrow` wrote.")
    missing = [name for name in wanted if name not in private]
    if missing:
        raise Invalid(
            f"{len(missing)} of the {len(wanted)} officers' private keys are missing.",
            field="officers",
            remedy="All officers have to be there: give --with for each.",
        )
    known = [private[officer] for officer in wanted]
    became = Counter(_restored(keys, line, known) for line in lines)
    made, there = became["made"], became["there"]
    if len(lines) != count or became["lost"]:
        good = len(lines) - became["lost"]
        raise Tampered(
            f"The escrow file was altered or cut short: {good} of its {count} keys open. Of those {made} were brought "
            f"back, {there} were there already.",
            remedy="Use another copy of it for the others.",
        )
    return made, there


def _are_officers(names: object) -> TypeGuard[list[str]]:
    return isinstance(names, list) and 1 <= len(names) <= _MOST_OFFICERS and all(isinstance(n, str) for n in names)


def _restored(keys: StoredKeys, line: dict[str, Any], private: list[X25519PrivateKey]) -> str:
    """What became of a line's key: "made", "there" already, "ended" since, or "lost" where it does not open."""
    found = _opened(line, private)
    if found is None:
        return "lost"
    try:
        return "made" if keys.restore(*found) else "there"
    except Erased:
        return "ended"


def _opened(line: dict[str, Any], private: list[X25519PrivateKey]) -> tuple[UUID, str, bytes] | None:
    try:
        tenant, name, shares = UUID(line["tenant"]), line["name"], [base64.b64decode(s) for s in line["shares"]]
        if _NAME.fullmatch(name) and len(shares) == len(private):
            plain = [
                _SUITE.decrypt(share, key, _info(tenant, name, key.public_key()))
                for share, key in zip(shares, private, strict=True)
            ]
            return tenant, name, _joined(plain)
    except (InvalidTag, KeyError, TypeError, ValueError, AttributeError, binascii.Error):
        pass
    return None


def _stored(provider: KeyProvider) -> StoredKeys:
    if not isinstance(provider, StoredKeys):
        raise Unsupported(
            "The keys of this provider do not leave it.", remedy="Use the escrow of the service that keeps them."
        )
    return provider


def _split(key: bytes, count: int) -> list[bytes]:
    shares = [os.urandom(len(key)) for _ in range(count - 1)]
    return [*shares, _joined([key, *shares])]


def _joined(shares: Sequence[bytes]) -> bytes:
    value = 0
    for share in shares:
        value ^= int.from_bytes(share, "big")
    return value.to_bytes(32, "big")


def _info(tenant: UUID, name: str, officer: X25519PublicKey) -> bytes:
    return length_prefixed(_FORM.encode(), context_of(tenant, name), _raw(officer))


def _raw(key: X25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _public(path: Path) -> X25519PublicKey:
    try:
        key = X25519PublicKey.from_public_bytes(bytes.fromhex(path.read_text("ascii").strip()))
        # Points of small order have no shared key with anybody (RFC 7748 §6.1).
        X25519PrivateKey.generate().exchange(key)
        return key
    except OSError as error:
        raise Unavailable(f"The file {path} cannot be read ({error.strerror}).", remedy="Check the path.") from None
    except ValueError:
        pass
    raise Invalid(f"The file {path} holds no officer's public key.", field="officers", remedy="Name the .pub file.")


def _private(path: Path) -> X25519PrivateKey:
    try:
        content = read_private(path, "`tallystick keys officer`").decode("ascii").strip()
        return X25519PrivateKey.from_private_bytes(bytes.fromhex(content))
    except ValueError:
        pass
    raise Invalid(f"The file {path} holds no officer's private key.", field="officers", remedy="Name the key file.")


def _lines(file: Path) -> list[dict[str, Any]]:
    try:
        found = [_object(line) for line in file.read_bytes().splitlines()]
    except OSError as error:
        raise Unavailable(f"The file {file} cannot be read ({error.strerror}).", remedy="Check the path.") from None
    if not found:
        raise Tampered("The file is no escrow of keys.", remedy="Name the file that `tallystick keys escrow` wrote.")
    return found


def _object(line: bytes) -> dict[str, Any]:
    """What a line holds; nothing where it is no JSON object, which is then told with what else does not open."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {}
