"""Accounts and the stripes of hot ones; their balances are written by the database alone."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from tallystick.entity import Entity
from tallystick.fields import LedgerAmount, Length, Maintained, Once, Ref
from tallystick.money import Money
from tallystick.repository import Repository
from tallystick.rules import Check, Readable, Rules, Unique, kept

MOST_STRIPES = 64
Balance = Annotated[LedgerAmount, Maintained()]
"""A running total in minor units that only the ledger's trigger writes."""


class AccountKind(StrEnum):
    """What an account is; it says on which side the balance normally stands."""

    ASSET = "asset"
    LIABILITY = "liability"
    EQUITY = "equity"
    INCOME = "income"
    EXPENSE = "expense"


class FloorRule(StrEnum):
    """Which side of an account may never outgrow the other, what is pending on the growing side included."""

    NONE = "none"
    DEBITS_LE_CREDITS = "debits_le_credits"
    CREDITS_LE_DEBITS = "credits_le_debits"


def net_of(kind: AccountKind, debits: int, credits: int, asset: str) -> Money:
    """A balance as people say it: positive on the account's normal side."""
    normal = debits - credits if kind in (AccountKind.ASSET, AccountKind.EXPENSE) else credits - debits
    return Money(normal, asset)


class Account(Entity):
    """A place where money of one asset is. Everything but its name is settled when it is opened.

    With ``stripes`` its balance is kept in that many rows instead of one, so that as many callers can post to it at
    once; the row of the account itself then stays at zero. An account with a floor cannot be striped.
    """

    code: Annotated[str, Length(120, min=1), Once()]
    asset: Annotated[str, Length(32, min=2), Once()]
    kind: Annotated[AccountKind, Once()]
    floor_rule: Annotated[FloorRule, Once()] = FloorRule.NONE
    stripes: Annotated[int, Once()] = 0
    name: Annotated[str, Length(200)] | None = None
    debits: Balance = 0
    credits: Balance = 0
    debits_pending: Balance = 0
    credits_pending: Balance = 0

    rules = Rules(
        Unique("code"),
        Unique("id", "asset"),
        Check("stripes", f"stripes between 0 and {MOST_STRIPES}"),
        Check("striped", "stripes = 0 or floor_rule = 'none'"),
        Check("pending", "debits_pending >= 0 and credits_pending >= 0"),
        Check(
            "floor",
            "(floor_rule <> 'debits_le_credits' or debits + debits_pending <= credits) and "
            "(floor_rule <> 'credits_le_debits' or credits + credits_pending <= debits)",
        ),
        kept(),
        retain="lending",
        fillfactor=70,
        unaudited=("debits", "credits", "debits_pending", "credits_pending"),
        readable={"code": Readable.CODE, "asset": Readable.CODE, "name": Readable.CODE},
        derived="tally.account_derived",
    )


class Stripe(Entity):
    """One of the rows over which a hot account's balance is spread; only their sum means anything.

    A pending transfer and its resolution may fall on different stripes, so one alone can be below zero.
    """

    account: Annotated[Ref[Account], Once()]
    number: Annotated[int, Once()]
    debits: Balance = 0
    credits: Balance = 0
    debits_pending: Balance = 0
    credits_pending: Balance = 0

    rules = Rules(
        Unique("account", "number"),
        Check("number", f"number between 0 and {MOST_STRIPES - 1}"),
        kept(),
        retain="lending",
        table="account_stripe",
        fillfactor=70,
        audit=False,
        derived="tally.account_stripe_derived",
    )


class Accounts(Repository[Account]):
    """The tenant's accounts."""

    async def by_code(self, code: str) -> Account | None:
        """The account with this code."""
        found = await self.find(Account.code == code, limit=1)
        return found[0] if found else None
