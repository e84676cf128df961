"""Commands that stop the days of a loan from counting as late, and let them count again."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

from tallystick.domains.idempotency import idempotent
from tallystick.domains.lending.checks import as_date
from tallystick.domains.lending.loans import Loan, LoanStatus
from tallystick.domains.lending.pauses import DelinquencyPause
from tallystick.errors import Conflict, Invalid
from tallystick.query import at_least, at_most

if TYPE_CHECKING:
    from uuid import UUID

    from tallystick.session import Session


async def pause(
    db: Session, loan: UUID, starts_on: date, ends_on: date, *, reason: str | None, key: str | None
) -> DelinquencyPause:
    """See ``Portfolio.pause``."""
    await db.require("loans.adjust")
    if as_date(ends_on, "ends_on") < as_date(starts_on, "starts_on"):
        raise Invalid("The pause ends before it starts.", field="ends_on", remedy="Both days are included.")
    request = (loan, starts_on, ends_on, reason)
    async with idempotent(db, "loans.pause", key, request) as once:
        if once.replayed:
            return await db[DelinquencyPause].get(once.results[0])
        held = await _held(db, loan)
        if held.disbursed_on is None or starts_on < held.disbursed_on:
            raise Invalid(
                "The pause starts before the loan was paid out.", field="starts_on", remedy="Start it on a later day."
            )
        overlapping = await db[DelinquencyPause].exists(
            DelinquencyPause.loan == held.ref,
            at_most(DelinquencyPause.starts_on, ends_on),
            at_least(DelinquencyPause.ends_on, starts_on),
        )
        if overlapping:
            raise Conflict(
                "The loan has a pause on some of these days.",
                entity="DelinquencyPause",
                remedy="Start it after the other one ends, or end that one with portfolio.resume().",
            )
        made = await db[DelinquencyPause].add(
            DelinquencyPause(loan=held.ref, starts_on=starts_on, ends_on=ends_on, reason=reason)
        )
        once.results = (made.id,)
        return made


async def resume(db: Session, loan: UUID, on: date | None, key: str | None) -> DelinquencyPause:
    """See ``Portfolio.resume``."""
    await db.require("loans.adjust")
    day = db.today() if on is None else as_date(on, "on")
    async with idempotent(db, "loans.resume", key, (loan, on)) as once:
        if once.replayed:
            return await db[DelinquencyPause].get(once.results[0])
        held = await _held(db, loan)
        found = await db[DelinquencyPause].find(
            DelinquencyPause.loan == held.ref,
            at_most(DelinquencyPause.starts_on, day),
            at_least(DelinquencyPause.ends_on, day),
        )
        if not found:
            raise Conflict(
                "The loan has no pause on that day.", entity="DelinquencyPause", remedy="Look at portfolio.standing()."
            )
        if found[0].starts_on == day:
            raise Invalid(
                "A pause lasts a day at least.", field="on", remedy="Resume on the day after it started, or later."
            )
        made = await db[DelinquencyPause].update(found[0], ends_on=day - timedelta(days=1))
        once.results = (made.id,)
        return made


async def _held(db: Session, loan: UUID) -> Loan:
    """The loan, locked, so that two pauses cannot be laid over each other."""
    held = await db[Loan].lock(loan)
    if held.status is not LoanStatus.ACTIVE:
        raise Conflict(
            f"The loan is {held.status.value}.", entity="Loan", remedy="Only days of an active loan are paused."
        )
    return held
