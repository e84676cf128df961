"""Accounts whose ids follow from what they are for, opened where they are not open yet.

A module of its own, so that whoever keeps books of a kind posts without looking anything up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tallystick.domains.ledger.accounts import Account, Stripe
from tallystick.errors import Duplicate
from tallystick.fields import Ref
from tallystick.query import one_of

if TYPE_CHECKING:
    from tallystick.session import Session


async def open_missing(db: Session, wanted: Sequence[Account]) -> None:
    """Open those accounts that are not there, with their stripes; callers that race open each one once."""
    known = {a.id for a in await db.ledger.accounts.find(one_of(Account.id, [a.id for a in wanted]))}
    for account in wanted:
        if account.id in known:
            continue
        try:
            async with db.transaction():
                await db.ledger.accounts.add(account)
                await db[Stripe].add_many([Stripe(account=Ref(account.id), number=n) for n in range(account.stripes)])
        except Duplicate:
            # Somebody else opened it in the same moment.
            continue
