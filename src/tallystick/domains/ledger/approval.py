"""Maker and checker: a journal above the tenant's limit is proposed by one person and approved by another.

The limits are in the tenant's settings, in minor units: ``{"ledger": {"checker_above": {"USD": 1000000}}}``.
The database holds every posting to them, so no caller can forget.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING
from uuid import UUID

from tallystick.domains.idempotency import idempotent
from tallystick.domains.ledger.posting import Draft, Receipt, draft, journal_of, write
from tallystick.domains.ledger.proposals import Proposal, ProposalStatus
from tallystick.domains.ledger.transfers import Leg
from tallystick.entity import Entity
from tallystick.errors import Conflict, Denied
from tallystick.money import Money

if TYPE_CHECKING:
    from tallystick.session import Session


class Approval:
    """Proposals of journals, and what becomes of them."""

    __slots__ = ("_db",)

    def __init__(self, db: Session) -> None:
        self._db = db

    async def propose(
        self,
        legs: Sequence[Leg],
        *,
        op: str,
        key: str | None,
        on: date | None = None,
        source: Entity | tuple[str, UUID] | None = None,
        description: str | None = None,
        reverses: UUID | None = None,
    ) -> Proposal:
        """Record a journal to be posted when somebody else approves it; without ``on``, on the day of the approval.

        To reverse a journal above the limit, give ``legs=await db.ledger.reversal_of(id), reverses=id``.
        """
        db = self._db
        given = draft(legs, op=op, on=on, source=source, description=description)
        request = (given.legs, op, on, given.source, description, reverses)
        async with idempotent(db, "ledger.propose", key, request) as once:
            if once.replayed:
                return await db[Proposal].get(once.results[0])
            made = await db[Proposal].add(
                Proposal(
                    op=op,
                    legs=[_written(leg) for leg in given.legs],
                    effective=on,
                    reverses=reverses,
                    source=given.source[0] if given.source else None,
                    source_id=given.source[1] if given.source else None,
                    description=description,
                )
            )
            once.results = (made.id,)
        return made

    async def approve(self, proposal: UUID, *, key: str | None) -> Receipt:
        """Post what was proposed. Needs the permission "ledger.approve" and another actor than the maker.

        Raises ``RoleMissing``, ``Denied`` for the maker, ``Conflict`` when it is decided already, and what
        ``ledger.post`` raises.
        """
        db = self._db
        await db.require("ledger.approve")
        async with idempotent(db, "ledger.approve", key, proposal) as once:
            if once.replayed:
                return await db.ledger.receipt(once.results[0], replayed=True)
            found = await self._undecided(proposal)
            if found.created_by == db.actor:
                raise Denied("Who proposed a journal does not approve it.", remedy="Ask somebody else to approve it.")
            await db[Proposal].update(found, status=ProposalStatus.APPROVED)
            given = Draft(
                legs=tuple(_read(leg) for leg in found.legs),
                op=found.op,
                on=found.effective,
                source=(found.source, found.source_id) if found.source and found.source_id else None,
                description=found.description,
                reverses=found.reverses,
            )
            ((journal, transfers),) = await write(db, [journal_of(db, given, found)])
            once.results = (journal.id,)
        return Receipt(journal=journal, transfers=transfers)

    async def reject(self, proposal: UUID) -> Proposal:
        """Close a proposal without posting it; its maker may, others need the permission "ledger.approve"."""
        db = self._db
        async with db.transaction():
            found = await self._undecided(proposal)
            if found.created_by != db.actor:
                await db.require("ledger.approve")
            return await db[Proposal].update(found, status=ProposalStatus.REJECTED)

    async def _undecided(self, proposal: UUID) -> Proposal:
        found = await self._db[Proposal].lock(proposal)
        if found.status is not ProposalStatus.PROPOSED:
            raise Conflict(f"The proposal is {found.status.value} already.", entity="Proposal")
        return found


def _written(leg: Leg) -> dict[str, str]:
    """A leg as the database compares it with the transfer that is posted."""
    return {
        "debit": str(leg.debit),
        "credit": str(leg.credit),
        "asset": leg.money.asset,
        "amount": str(leg.money.units),
    }


def _read(leg: dict[str, str]) -> Leg:
    return Leg(UUID(leg["debit"]), UUID(leg["credit"]), Money(int(leg["amount"]), leg["asset"]))
