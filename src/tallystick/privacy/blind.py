"""Blind indexes: finding an encrypted value by equality without decrypting a row.

The index is HMAC-SHA-256 of the normalised value under a key of its own per tenant and column, so equal values in two
tenants or columns do not look equal. Within a column they do: never index what has few values (a sex, a date of birth,
a postcode) without truncating to ``bits``, and a truncated index finds candidates that must be compared after opening.
"""

from __future__ import annotations

import hmac
import unicodedata
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from tallystick.errors import Invalid

__all__ = ["LONGEST", "NORMALISERS", "blind_index", "digest_of", "normalise", "stored"]

LONGEST: Final = 100_000
"""The most characters that are indexed."""


def normalise(kind: str, value: str) -> bytes:
    """Return the form of a text under which it is indexed, as UTF-8.

    ``exact``: NFKC, nothing else. ``email``: trimmed and case-folded, the domain in its ASCII form (IDNA 2003).
    ``name``: case-folded, runs of white space made one space. ``digits``: decimal digits of any script as
    ASCII, all else dropped. ``phone``: the same, with a ``+`` in front where there was one. Applying it twice
    changes nothing. Raises ``Invalid`` for an unknown kind, for a value that is not text, and for one of
    which nothing is left.
    """
    rule = NORMALISERS.get(kind) if isinstance(kind, str) else None
    if rule is None:
        raise Invalid(
            "There is no such normaliser.", field="kind", remedy=f"Use one of {', '.join(sorted(NORMALISERS))}."
        )
    if not isinstance(value, str) or len(value) > LONGEST:
        raise Invalid("Only a text can be indexed blindly.", field="value", remedy="Pass the value as str.")
    result: bytes | None
    try:
        result = rule(value).encode()
    except UnicodeError:
        result = None
    # Raised out here: a chained UnicodeError would carry the value along.
    if result is None:
        raise Invalid(f"The value is not valid for the {kind} normaliser.", field="value", remedy="Check its form.")
    if not result:
        raise Invalid(
            f"Nothing of the value is left by the {kind} normaliser.",
            field="value",
            remedy="Leave an empty value out; it must not be indexed.",
        )
    return result


def blind_index(key: bytes, kind: str, value: str, bits: int | None = None) -> bytes:
    """Return the blind index of a value: 32 bytes, or the first ``bits`` bits padded with zero bits to a byte.

    ``key`` is the column's index key, at least 32 bytes. Raises ``Invalid`` for a shorter one, for bits
    outside 1 to 256, and whatever ``normalise`` refuses.
    """
    return digest_of(key, normalise(kind, value), bits)


def digest_of(key: bytes, normal: bytes, bits: int | None = None) -> bytes:
    """The blind index of what was normalised before. Raises ``Invalid`` as ``blind_index`` does."""
    if key.__class__ is not bytes or len(key) < 32:
        raise Invalid("An index key is at least 32 bytes.", field="key", remedy="Take it from a key provider.")
    digest = hmac.digest(key, normal, "sha256")
    if bits is None:
        return digest
    if bits.__class__ is not int or not 1 <= bits <= 256:
        raise Invalid("A blind index has 1 to 256 bits.", field="bits", remedy="Leave bits out for all of them.")
    whole, spare = divmod(bits, 8)
    if not spare:
        return digest[:whole]
    return digest[:whole] + bytes((digest[whole] & (0xFF << (8 - spare)) & 0xFF,))


def stored(generation: int, digest: bytes) -> bytes:
    """A blind index as it stands in its column: two bytes that say of which generation its key is, then the index."""
    return generation.to_bytes(2, "big") + digest


def _compatible(value: str) -> str:
    return unicodedata.normalize("NFKC", value)


def _folded(value: str) -> str:
    # Folding can undo the normal form and the normal form can bring capitals back; two rounds settle every case.
    once = _compatible(_compatible(value).casefold())
    return _compatible(once.casefold())


def _name(value: str) -> str:
    return " ".join(_folded(value).split())


def _email(value: str) -> str:
    local, _, domain = _folded(value).rpartition("@")
    local, domain = local.strip(), domain.strip()
    ascii_domain = domain.encode("idna").decode("ascii").lower().removesuffix(".")
    if not (local and ascii_domain):
        raise UnicodeError("not an address")
    return f"{local}@{ascii_domain}"


def _digits(value: str) -> str:
    return "".join(str(unicodedata.decimal(char)) for char in _compatible(value) if char.isdecimal())


def _phone(value: str) -> str:
    number = _digits(value)
    before = _compatible(value).lstrip(" (\t\u200e\u202a\u2066")
    return f"+{number}" if number and before.startswith("+") else number


NORMALISERS: Final[Mapping[str, Callable[[str], str]]] = MappingProxyType(
    {"exact": _compatible, "email": _email, "digits": _digits, "phone": _phone, "name": _name}
)
"""The ways of normalising, by name."""
