"""Pauses of delinquency: days that are not counted as late."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from tallystick.domains.lending.loans import Loan
from tallystick.entity import Entity
from tallystick.fields import Length, Once, Ref
from tallystick.rules import Check, Index, Readable, Rules, kept


class DelinquencyPause(Entity):
    """A span of days, both included, on which a loan does not grow later: a disaster, an illness, an agreement."""

    loan: Annotated[Ref[Loan], Once()]
    starts_on: Annotated[date, Once()]
    ends_on: date
    reason: Annotated[str, Length(300), Once()] | None = None

    rules = Rules(
        Index("loan", "starts_on", query="the pauses of a loan"),
        Check("span", "starts_on <= ends_on"),
        kept(),
        retain="lending",
        readable={"reason": Readable.NOTE},
    )
