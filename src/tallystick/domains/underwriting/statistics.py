"""Counts and rates over applications: what a lender's dashboard and a fairness report start from."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tallystick.domains.underwriting.applications import Application
from tallystick.errors import Invalid

if TYPE_CHECKING:
    from tallystick.session import Session

# Both counts and risks come from an index alone. The risks of a period are looked up by an array of its applications,
# in one pass over the index: a join would look up the session's tenant for each of them.
_STATISTICS: Final = (
    "SELECT count(*) AS total, count(*) FILTER (WHERE a.status = 'approved') AS approved, "
    "count(*) FILTER (WHERE a.status = 'declined') AS declined, (SELECT avg(d.risk_score) FROM tally.decision d "
    "WHERE d.tenant_id = $1 AND d.is_final{among}) AS average_risk "
    "FROM tally.application a WHERE a.tenant_id = $1{period}"
)
_AMONG: Final = (
    " AND d.application_id = ANY (ARRAY(SELECT a.id FROM tally.application a WHERE a.tenant_id = $1{period}))"
)


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """Applications of a period; ``average_risk`` is the mean risk score (0 to 1000) of final decisions."""

    total: int
    approved: int
    declined: int
    average_risk: Decimal | None = None

    @property
    def pending(self) -> int:
        """Neither approved nor declined."""
        return self.total - self.approved - self.declined


class GroupRate(msgspec.Struct, frozen=True, kw_only=True):
    """How one group of a monitored attribute fared among decided applications."""

    group: str
    total: int
    approved: int

    @property
    def rate(self) -> Fraction:
        """The selection rate: approved of decided, exact."""
        return Fraction(self.approved, self.total)


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One group beside a reference group.

    ``difference`` is the statistical parity difference (rate minus the reference's), ``ratio`` the disparate impact
    (rate over the reference's); below four fifths is adverse impact by 29 CFR 1607.4(D).
    """

    group: str
    reference: str
    difference: Fraction
    ratio: Fraction | None

    @property
    def adverse(self) -> bool:
        """Whether the ratio is strictly below four fifths."""
        return self.ratio is not None and self.ratio < Fraction(4, 5)


async def statistics(db: Session, since: datetime | None, until: datetime | None) -> Statistics:
    """See ``Applications.statistics``."""
    args: list[Any] = [db.tenant_id]
    period = ""
    for moment, bound in ((since, ">="), (until, "<")):
        if moment is not None:
            if not isinstance(moment, datetime) or moment.tzinfo is None:
                raise Invalid("A period's bounds are datetimes with a time zone.", field="since")
            args.append(moment)
            period += f" AND a.created_at {bound} ${len(args)}"
    among = _AMONG.format(period=period) if period else ""
    (row,) = await db.unit.call(_STATISTICS.format(period=period, among=among), args, db.applications.spec)
    return Statistics(**dict(row))


async def rates_by(db: Session, attribute: str) -> list[GroupRate]:
    """See ``Applications.rates_by``."""
    from sqlalchemy import func, select

    if not isinstance(attribute, str) or not attribute.isidentifier():
        raise Invalid("A monitored attribute is a plain name.", field="attribute", remedy='Say "sex" or "age_band".')
    a = Application.table
    promoted = f"monitoring_{attribute}"
    group: Any = a.c[promoted] if promoted in a.c else a.c.monitoring[attribute].astext
    group = group.label("group")
    statement = (
        select(group, func.count().label("total"), func.count().filter(a.c.status == "approved").label("approved"))
        .where(a.c.status.in_(["approved", "declined"]), group.element.is_not(None))
        .group_by(group)
        .order_by(group)
    )
    return await db.fetch(statement, into=GroupRate)


def compare(rates: list[GroupRate], reference: str) -> list[Comparison]:
    """Every other group beside the reference group, exactly. Raises ``Invalid`` when the reference has no rows."""
    base = next((r for r in rates if r.group == reference), None)
    if base is None:
        raise Invalid(
            "The reference group has no decided applications.",
            field="reference",
            remedy=f"Groups are: {', '.join(r.group for r in rates) or 'none'}.",
        )
    return [
        Comparison(
            group=r.group,
            reference=reference,
            difference=r.rate - base.rate,
            ratio=r.rate / base.rate if base.rate else None,
        )
        for r in rates
        if r is not base
    ]
