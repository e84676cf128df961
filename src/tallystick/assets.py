"""Assets: what an amount is counted in, and how many decimals it has.

The fiat table is ISO 4217: the active currencies that have a minor unit, as amended up to 2026 (BGN left when Bulgaria
took the euro, XCG replaced ANG, ZWG replaced ZWL, SLE replaced SLL). Codes without a minor unit (XAU, XDR, XTS, ...)
cannot be counted in integers as they are; register them with the exponent you use.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from msgspec import Struct

from tallystick.errors import Invalid

__all__ = ["MAX_EXPONENT", "Asset", "AssetKind", "asset", "assets", "register"]

MAX_EXPONENT: Final = 77
"""The most decimals an asset may have: 10**77 is the largest power of ten below 2**256."""

_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9._:-]{1,31}")


class AssetKind(StrEnum):
    """What stands behind an asset; fiat is stored as bigint, the others as numeric(78,0)."""

    FIAT = "fiat"
    TOKEN = "token"  # noqa: S105 - a kind of asset, not a credential
    COMMODITY = "commodity"


class Asset(Struct, frozen=True, gc=False):
    """A code, the number of decimals of its minor unit, and its kind.

    Raises ``Invalid`` when the code is not 2 to 32 letters, digits or ``. _ : -``, or the exponent is not
    an integer of 0 to 77.
    """

    code: str
    exponent: int
    kind: AssetKind = AssetKind.TOKEN

    def __post_init__(self) -> None:
        if self.code.__class__ is not str or _CODE.fullmatch(self.code) is None:
            raise Invalid(
                "An asset code has the wrong form.",
                field="code",
                remedy="Use 2 to 32 characters: a letter, then letters, digits or . _ : -",
            )
        if self.exponent.__class__ is not int or not 0 <= self.exponent <= MAX_EXPONENT:
            raise Invalid(
                "An asset's exponent is out of range.",
                field="exponent",
                remedy=f"Give the number of decimals as an integer of 0 to {MAX_EXPONENT}.",
            )
        if self.kind.__class__ is not AssetKind:
            raise Invalid(
                "An asset's kind is not known.", field="kind", remedy="Use AssetKind.FIAT, TOKEN or COMMODITY."
            )


_ISO_4217: Final[dict[int, str]] = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: (
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW "
        "CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF "
        "IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK "
        "MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP "
        "SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG "
        "YER ZAR ZMW ZWG"
    ),
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}

_known: dict[str, Asset] = {
    code: Asset(code, exponent, AssetKind.FIAT) for exponent, codes in _ISO_4217.items() for code in codes.split()
}
_folded: dict[str, str] = {code.casefold(): code for code in _known}


def asset(code: str) -> Asset:
    """Return the asset with this code; raises ``Invalid`` when none is known by it.

    Codes are case-sensitive, because tokens are (``cUSD`` is not ``CUSD``).
    """
    try:
        return _known[code]
    except (KeyError, TypeError):
        pass
    # A code comes from outside and may be anything, a name included: only what looks like a code is repeated.
    shown = f" {code}" if isinstance(code, str) and re.fullmatch(r"[A-Z]{3}", code) else ""
    raise Invalid(
        f"There is no known asset{shown} by that code.",
        field="asset",
        remedy="Use an ISO 4217 code in capitals, or register(Asset(code, exponent)) when the application starts.",
    )


def assets() -> tuple[Asset, ...]:
    """Return every known asset, sorted by code."""
    return tuple(sorted(_known.values(), key=lambda known: known.code))


def register(new: Asset) -> Asset:
    """Make a token, commodity or withdrawn currency known; the same asset twice is fine.

    Raises ``Invalid`` when the code stands for something else already, or differs from a known code only in
    case: two codes that people read as one would be two kinds of money.
    """
    taken = _folded.setdefault(new.code.casefold(), new.code)
    if taken != new.code or _known.setdefault(new.code, new) != new:
        raise Invalid(
            f"The asset code {taken} is taken by a different asset.",
            field="code",
            remedy="Use another code, for example with the chain as prefix (base:USDC).",
        )
    return new
