"""Where the money behind endorsements is: taken in, held for who may get it back, or kept."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

from tallystick.domains.community.communities import Community
from tallystick.domains.ledger.accounts import Account, AccountKind, FloorRule
from tallystick.domains.ledger.opening import open_missing
from tallystick.domains.ledger.transfers import Leg
from tallystick.entity import Entity
from tallystick.money import Money

if TYPE_CHECKING:
    from datetime import date

    from tallystick.domains.ledger.posting import Receipt
    from tallystick.session import Session

_STRIPES = 16


class Purse(StrEnum):
    """The accounts that stakes move between.

    ``clearing`` is the tenant's, one for each asset; the others are a community's. ``held`` is owed to endorsers, and
    the database lets nobody take more out than is in; ``slashed`` is income.
    """

    CLEARING = "stakes.clearing"
    HELD = "stakes.held"
    SLASHED = "stakes.slashed"


def purse_id(db: Session, community: Community, purse: Purse) -> UUID:
    """The id of an account, which follows from what it is for: a posting looks nothing up."""
    if purse is Purse.CLEARING:
        return uuid5(db.tenant_id, f"{purse.value}:{community.asset}")
    return uuid5(community.id, purse.value)


async def open_purses(db: Session, community: Community) -> None:
    """Open a community's accounts for stakes, where they are not open yet."""
    await open_missing(db, [_account(db, community, purse) for purse in Purse])


async def take(db: Session, community: Community, stake: Money, about: Entity, on: date) -> Receipt:
    """A stake that was paid in: from clearing into what is held."""
    await open_purses(db, community)
    return await _move(db, community, Purse.CLEARING, Purse.HELD, stake, about, on, "endorsement.stake")


async def give_back(db: Session, community: Community, stake: Money, about: Entity, on: date) -> Receipt:
    """A stake that goes back to its endorser."""
    return await _move(db, community, Purse.HELD, Purse.CLEARING, stake, about, on, "endorsement.withdraw")


async def keep(db: Session, community: Community, stake: Money, about: Entity, on: date) -> Receipt:
    """A stake that is lost to the community."""
    return await _move(db, community, Purse.HELD, Purse.SLASHED, stake, about, on, "endorsement.slash")


async def _move(  # noqa: PLR0917
    db: Session, community: Community, debit: Purse, credit: Purse, stake: Money, about: Entity, on: date, op: str
) -> Receipt:
    leg = Leg(purse_id(db, community, debit), purse_id(db, community, credit), stake)
    return await db.ledger.post([leg], op=op, key=None, on=on, source=about)


def _account(db: Session, community: Community, purse: Purse) -> Account:
    kinds = {
        Purse.CLEARING: AccountKind.ASSET,
        Purse.HELD: AccountKind.LIABILITY,
        Purse.SLASHED: AccountKind.INCOME,
    }
    return Account(
        id=purse_id(db, community, purse),
        code=f"{purse.value}:{community.asset if purse is Purse.CLEARING else community.slug}",
        asset=community.asset,
        kind=kinds[purse],
        floor_rule=FloorRule.DEBITS_LE_CREDITS if purse is Purse.HELD else FloorRule.NONE,
        stripes=_STRIPES if purse is Purse.CLEARING else 0,
    )
