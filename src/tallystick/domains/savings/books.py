"""Which accounts a group's money moves between, and journals from them.

What is paid in for the pot is the members' until it is paid out: the pot is a liability that the database lets nobody
overdraw. What a member who defaulted owes is a receivable of the group's, beside what the others get when it comes in.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

from tallystick.domains.ledger.accounts import Account, AccountKind, FloorRule
from tallystick.domains.ledger.opening import open_missing
from tallystick.domains.ledger.posting import Draft, journal_of, write
from tallystick.domains.ledger.transfers import MOST_TRANSFERS, transfer
from tallystick.domains.savings.groups import SavingsGroup
from tallystick.fields import Ref

if TYPE_CHECKING:
    from tallystick.domains.ledger.journals import Journal
    from tallystick.session import Session

_HOT = 16
Move = tuple["Purse", "Purse", int]
"""A debit, a credit and units of the group's asset."""


class Purse(StrEnum):
    """Accounts of savings circles; ``clearing`` and ``fees`` are the tenant's, one an asset, the others a group's."""

    CLEARING = "circles.clearing"
    FEES = "circles.fees"
    POT = "pot"
    COLLATERAL = "collateral"
    RECEIVABLE = "receivable"
    CLAIMED = "claimed"


_KINDS = {Purse.CLEARING: AccountKind.ASSET, Purse.FEES: AccountKind.INCOME, Purse.RECEIVABLE: AccountKind.ASSET}
_SHARED = (Purse.CLEARING, Purse.FEES)


def purse_id(db: Session, group: SavingsGroup, purse: Purse) -> UUID:
    """The id of an account, which follows from what it is for: posting looks nothing up."""
    if purse in _SHARED:
        return uuid5(db.tenant_id, f"{purse.value}:{group.asset}")
    return uuid5(group.id, purse.value)


async def open_purses(db: Session, group: SavingsGroup) -> None:
    """Open a group's accounts, and the tenant's where they are not open yet; nothing for a mirrored group."""
    if group.mirrored:
        return
    await open_missing(db, [_account(db, group, purse) for purse in Purse])


async def post(db: Session, group: SavingsGroup, moves: Sequence[Move], *, op: str, on: date) -> Ref[Journal] | None:
    """Write one journal of a group; None when nothing moves, or when a chain holds the money.

    Raises ``InsufficientFunds`` where a pot or a collateral would be overdrawn, and what ``ledger.post`` does.
    """
    legs = [
        transfer(purse_id(db, group, debit), purse_id(db, group, credit), group.money(units))
        for debit, credit, units in moves
        if units and not group.mirrored
    ]
    made: Ref[Journal] | None = None
    for start in range(0, len(legs), MOST_TRANSFERS):
        draft = Draft(
            legs=tuple(legs[start : start + MOST_TRANSFERS]), op=op, on=on, source=("savings_group", group.id)
        )
        ((journal, _),) = await write(db, [journal_of(db, draft)])
        made = Ref(journal.id)
    return made


def _account(db: Session, group: SavingsGroup, purse: Purse) -> Account:
    floors = {
        Purse.POT: FloorRule.DEBITS_LE_CREDITS,
        Purse.COLLATERAL: FloorRule.DEBITS_LE_CREDITS,
        Purse.RECEIVABLE: FloorRule.CREDITS_LE_DEBITS,
        Purse.CLAIMED: FloorRule.DEBITS_LE_CREDITS,
    }
    return Account(
        id=purse_id(db, group, purse),
        code=f"{purse.value}:{group.asset}" if purse in _SHARED else f"circle:{group.id}:{purse.value}",
        asset=group.asset,
        kind=_KINDS.get(purse, AccountKind.LIABILITY),
        floor_rule=floors.get(purse, FloorRule.NONE),
        stripes=_HOT if purse in _SHARED else 0,
    )
