"""Provisions: what a lender sets aside for losses, by how late loans are."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from tallystick.domains.lending.buckets import Buckets
from tallystick.domains.lending.checks import as_fraction
from tallystick.domains.lending.lateness import frame
from tallystick.errors import Invalid
from tallystick.money import Money, Rounding

if TYPE_CHECKING:
    from tallystick.session import Session

__all__ = ["MICROFINANCE", "Provision", "ProvisionRates", "Provisions", "provisions"]


class ProvisionRates(Struct, frozen=True, kw_only=True):
    """The part of the outstanding principal that is set aside in each bucket, as fractions of 0 to 1.

    ``rates`` names every range of ``buckets``. ``current`` is for loans in no bucket; ``restructured`` is the least for
    a restructured loan, however punctual. Raises ``Invalid``.
    """

    buckets: Buckets
    rates: Mapping[str, Decimal]
    current: Decimal = Decimal(0)
    restructured: Decimal = Decimal(0)

    def __post_init__(self) -> None:
        if not isinstance(self.buckets, Buckets) or not isinstance(self.rates, Mapping):
            raise Invalid("Rates are of Buckets, by their names.", field="rates")
        if set(self.rates) != {r.name for r in self.buckets.ranges}:
            raise Invalid("Rates and buckets do not have the same names.", field="rates", remedy="Name each range.")
        for rate in (*self.rates.values(), self.current, self.restructured):
            if not isinstance(rate, Decimal) or not 0 <= as_fraction(rate, "rates") <= 1:
                raise Invalid("A rate is a Decimal from 0 to 1.", field="rates", remedy='Decimal("0.5") is one half.')

    def of(self, bucket: str | None, *, restructured: bool) -> Decimal:
        """The rate of a loan in a bucket."""
        rate = self.current if bucket is None else self.rates[bucket]
        return max(rate, self.restructured) if restructured else rate


MICROFINANCE: Final = ProvisionRates(
    buckets=Buckets.of("1-90", "91-180", "181+"),
    rates={"1-90": Decimal(0), "91-180": Decimal("0.5"), "181+": Decimal(1)},
    restructured=Decimal("0.5"),
)
"""The MicroBanking Bulletin's adjustment (no. 20, September 2010, appendix): half of what is 91 to 180 days late, all
of what is later, half of what was renegotiated. It is made for comparing lenders; regulators have tables of their own.
"""


class Provision(Struct, frozen=True, kw_only=True):
    """What is set aside for the loans of an asset in a bucket; None is in no bucket."""

    asset: str
    bucket: str | None
    restructured: bool
    loans: int
    principal: Money
    rate: Decimal
    provision: Money


class Provisions(Struct, frozen=True, kw_only=True):
    """What is set aside as of a business date; charged-off loans are a loss already and not in it."""

    on: date
    lines: tuple[Provision, ...]

    @property
    def totals(self) -> dict[str, Money]:
        """What is set aside in each asset."""
        found: dict[str, Money] = {}
        for line in self.lines:
            found[line.asset] = found.get(line.asset, Money(0, line.asset)) + line.provision
        return found


async def provisions(db: Session, on: date | None, rates: ProvisionRates) -> Provisions:
    """See ``Portfolio.provisions``."""
    if not isinstance(rates, ProvisionRates):
        raise Invalid("Rates are given as ProvisionRates.", field="rates", remedy="Start from MICROFINANCE.")
    at = await frame(db, on)
    place = f"width_bucket(days, {at.arg(rates.buckets.bounds)}::int[])"
    beyond = len(rates.buckets.ranges) + 1
    rows = await at.rows(
        f"SELECT asset, CASE WHEN since IS NULL THEN 0 ELSE {place} END % {beyond} AS place, restructured, count(*), "
        "sum(principal) FROM loans WHERE NOT charged_off GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    )
    lines = []
    for asset, found, restructured, loans, principal in rows:
        bucket = rates.buckets.at(found)
        name = None if bucket is None else bucket.name
        rate, owed = rates.of(name, restructured=restructured), Money(int(principal), asset)
        lines.append(
            Provision(
                asset=asset,
                bucket=name,
                restructured=restructured,
                loans=loans,
                principal=owed,
                rate=rate,
                provision=owed.times(rate, rounding=Rounding.HALF_EVEN),
            )
        )
    return Provisions(on=at.on, lines=tuple(lines))
