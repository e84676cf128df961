"""Accounting periods: once one is closing, nothing is posted into it any more."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from tallystick.entity import Entity
from tallystick.errors import Conflict
from tallystick.fields import Length, Once
from tallystick.query import at_least, at_most
from tallystick.repository import Repository
from tallystick.rules import Check, Guard, Index, Readable, Rules, Transitions, kept


class PeriodStatus(StrEnum):
    """``closing`` refuses postings while the books are looked at; ``closed`` is for good."""

    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


_S = PeriodStatus


class Period(Entity):
    """The days from ``starts_on`` to ``ends_on``, both included. Periods do not overlap and are never reopened.

    A date without a period may be posted to.
    """

    starts_on: Annotated[date, Once()]
    ends_on: Annotated[date, Once()]
    name: Annotated[str, Length(100)] | None = None
    status: PeriodStatus = PeriodStatus.OPEN

    rules = Rules(
        Index("starts_on", query="the period of a date"),
        Check("order", "starts_on <= ends_on"),
        Transitions("status", {_S.OPEN: [_S.CLOSING], _S.CLOSING: [_S.CLOSED]}, initial=[_S.OPEN]),
        Guard("tally_period", "BEFORE INSERT", "tally.ledger_period('accounting_period')"),
        kept(),
        retain="lending",
        table="accounting_period",
        readable={"name": Readable.CODE},
    )


class Periods(Repository[Period]):
    """The tenant's accounting periods."""

    async def open(self, starts_on: date, ends_on: date, *, name: str | None = None) -> Period:
        """Add a period that can be posted into. Raises ``Conflict`` where it overlaps another."""
        return await self.add(Period(starts_on=starts_on, ends_on=ends_on, name=name))

    async def covering(self, day: date) -> Period | None:
        """The period of a date."""
        found = await self.find(at_most(Period.starts_on, day), at_least(Period.ends_on, day), limit=1)
        return found[0] if found else None

    async def begin_closing(self, period: UUID) -> Period:
        """Refuse postings from now on, once those under way have ended; needs the permission "ledger.close"."""
        await self.db.require("ledger.close")
        async with self.db.transaction():
            found = await self.lock(period)
            if found.status is not _S.OPEN:
                raise Conflict(f"The period is {found.status.value} already.", entity="Period")
            return await self.update(found, status=_S.CLOSING)

    async def close(self, period: UUID) -> Period:
        """Close an open or closing period for good; needs the permission "ledger.close"."""
        await self.db.require("ledger.close")
        async with self.db.transaction():
            found = await self.lock(period)
            if found.status is _S.CLOSED:
                raise Conflict("The period is closed already.", entity="Period")
            if found.status is _S.OPEN:
                found = await self.update(found, status=_S.CLOSING)
            return await self.update(found, status=_S.CLOSED)
