"""What is overdue, by how long: amounts in each bucket, by the age of installments and by that of their loans."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from msgspec import Struct

from tallystick.domains.lending.buckets import Buckets, as_buckets
from tallystick.domains.lending.lateness import frame
from tallystick.money import Money

if TYPE_CHECKING:
    from tallystick.session import Session


class Delinquent(Struct, frozen=True, kw_only=True):
    """A bucket of an asset; ``bucket`` None is late by days that no range has.

    ``installments`` and ``amount`` are of installments by their own age, which grace does not shorten; they are there
    only while their loan is late. ``loans``, ``overdue`` and ``principal`` are of whole loans by their days past due:
    what they have overdue and what they owe in principal, that to come included.
    """

    asset: str
    bucket: str | None
    installments: int
    amount: Money
    loans: int
    overdue: Money
    principal: Money


class Delinquency(Struct, frozen=True, kw_only=True):
    """What is overdue as of a business date: a line an asset and bucket that has something, in the buckets' order."""

    on: date
    buckets: Buckets
    lines: tuple[Delinquent, ...]


async def delinquency(db: Session, on: date | None, buckets: Buckets) -> Delinquency:
    """See ``Portfolio.delinquency``."""
    as_buckets(buckets)
    at = await frame(db, on)
    # Days before the first range and after a last one that ends are both in none, which is place 0.
    bounds, places = f"{at.arg(buckets.bounds)}::int[]", len(buckets.ranges) + 1
    age = at.age("o.loan_id", "o.due")
    rows = await at.rows(
        f"SELECT asset, place % {places}, sum(installments), sum(amount), sum(loans), sum(overdue), sum(principal) "
        f"FROM (SELECT l.asset, width_bucket({age}, {bounds}) AS place, count(*) AS installments, "
        "sum(o.total) AS amount, 0 AS loans, 0 AS overdue, 0 AS principal FROM loans l "
        f"JOIN owed o ON o.loan_id = l.id WHERE l.days > 0 AND o.due < $2 AND {age} > 0 GROUP BY 1, 2 UNION ALL "
        f"SELECT l.asset, width_bucket(l.days, {bounds}), 0, 0, count(*), sum(o.overdue), sum(l.principal) "
        "FROM loans l JOIN (SELECT loan_id, sum(total) AS overdue FROM owed WHERE due < $2 GROUP BY loan_id) o "
        "ON o.loan_id = l.id WHERE l.days > 0 GROUP BY 1, 2) x GROUP BY 1, 2 ORDER BY 1, 2"
    )
    lines = []
    for asset, place, installments, amount, loans, overdue, principal in rows:
        found = buckets.at(place)
        lines.append(
            Delinquent(
                asset=asset,
                bucket=None if found is None else found.name,
                installments=int(installments),
                amount=Money(int(amount), asset),
                loans=int(loans),
                overdue=Money(int(overdue), asset),
                principal=Money(int(principal), asset),
            )
        )
    return Delinquency(on=at.on, buckets=buckets, lines=tuple(lines))
