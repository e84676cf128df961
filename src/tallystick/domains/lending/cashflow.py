"""Cash flows: amounts of money on dates."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from msgspec import Struct

from tallystick.domains.lending.checks import as_date
from tallystick.errors import Invalid
from tallystick.money import Money

__all__ = ["CashFlow", "ordered"]


class CashFlow(Struct, frozen=True):
    """An amount above zero that changes hands on a date: a tranche paid out, or a payment due.

    Raises ``Invalid`` for an amount that is not money or not above zero, and for a datetime.
    """

    on: date
    amount: Money

    def __post_init__(self) -> None:
        as_date(self.on, "on")
        if self.amount.__class__ is not Money or self.amount.units <= 0:
            raise Invalid(
                "A cash flow is an amount of money above zero.",
                field="amount",
                remedy="Pass Money; the direction is given by where the flow is passed, not by a sign.",
            )


def ordered(flows: Sequence[CashFlow], field: str, asset: str | None = None) -> tuple[CashFlow, ...]:
    """Return the flows by date; raises ``Invalid`` for none of them, for anything else, and for a mix of assets."""
    if not isinstance(flows, Sequence) or not flows or any(flow.__class__ is not CashFlow for flow in flows):
        raise Invalid(f"There is no cash flow in {field}.", field=field, remedy="Pass at least one CashFlow.")
    assets = {flow.amount.asset for flow in flows} | ({asset} if asset else set())
    if len(assets) > 1:
        raise Invalid(
            "Cash flows of different assets cannot be compared.",
            field=field,
            remedy="Convert them to one asset first, at prices you choose.",
        )
    return tuple(sorted(flows, key=lambda flow: flow.on))
