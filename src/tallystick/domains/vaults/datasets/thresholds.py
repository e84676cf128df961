"""Which liquidation threshold the rows of borrowers were counted with, where nobody wrote it down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import ROUND_DOWN, Context, Decimal
from typing import Final

import msgspec

_EXACT: Final = Context(prec=60)
_HALF: Final = Decimal("0.005")
"""Health factors are published with two decimals."""
_ROUND: Final = tuple(map(Decimal, ("0.05", "0.025", "0.01", "0.005", "0.001", "0.0001")))
_MOST: Final = Decimal("0.99")
_ENOUGH: Final = 3
"""Rows in a row that have to agree before a threshold that is known gives way."""
_EIGHT: Final = Decimal("1e-8")


class Single(msgspec.Struct, frozen=True, kw_only=True):
    """A row with debt whose collateral is of one token; both in one unit, above zero."""

    token: str
    at: datetime
    collateral: int
    debt: int
    health: Decimal

    def bounds(self) -> tuple[Decimal, Decimal]:
        """Between which thresholds the health factor is what was published."""
        share = _EXACT.divide(Decimal(self.debt), Decimal(self.collateral))
        return _EXACT.multiply(self.health - _HALF, share), _EXACT.multiply(self.health + _HALF, share)


class Step(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """From when on a token has a threshold."""

    at: datetime
    token: str
    threshold: Decimal


def steps_of(rows: Iterable[Single], known: Mapping[str, Decimal]) -> list[Step]:
    """The thresholds that rows tell, where they tell another than is known; by time. Zero is not known."""
    by_token: dict[str, list[Single]] = {}
    for row in sorted(rows, key=lambda r: r.at):
        by_token.setdefault(row.token, []).append(row)
    found: list[Step] = []
    for token, of in by_token.items():
        found += _of_one(of, known.get(token, Decimal(0)))
    return sorted(found)


def roundest(low: Decimal, high: Decimal) -> Decimal | None:
    """The roundest fraction between two; None where there is none that a threshold can be."""
    low, high = max(low, Decimal(0)), min(high, _MOST)
    if low > high or high <= 0:
        return None
    middle = (low + high) / 2
    for step in _ROUND:
        nearest = (middle / step).to_integral_value() * step
        if low <= nearest <= high and nearest > 0:
            return nearest
    return middle.quantize(_EIGHT, rounding=ROUND_DOWN) or None


def _of_one(rows: list[Single], now: Decimal) -> list[Step]:
    found: list[Step] = []
    at = 0
    while at < len(rows):
        low, high = rows[at].bounds()
        if now and low <= now <= high:
            at += 1
            continue
        end = at + 1
        while end < len(rows):
            least, most = rows[end].bounds()
            if max(low, least) > min(high, most):
                break
            low, high, end = max(low, least), min(high, most), end + 1
        told = roundest(low, high)
        if told is None or (now and end - at < _ENOUGH):
            at += 1
            continue
        found.append(Step(at=rows[at].at, token=rows[at].token, threshold=told))
        now, at = told, end
    return found
