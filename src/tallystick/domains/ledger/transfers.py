"""Transfers: the rows of a journal. Each debits one account and credits another, so nothing can be out of balance."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from uuid import UUID

import msgspec

from tallystick.domains.ledger.accounts import Account
from tallystick.domains.ledger.journals import Journal
from tallystick.entity import Entity
from tallystick.errors import Invalid
from tallystick.fields import LedgerAmount, Length, Ref
from tallystick.money import LEDGER_MAX, Money
from tallystick.rules import Check, Foreign, Guard, Readable, Rules, Unique, append_only

MOST_TRANSFERS = 1_000
"""The most transfers that one call may post."""
AccountLike = Account | Ref[Account] | UUID


class Phase(StrEnum):
    """``pending`` reserves; ``post`` makes a pending transfer final, whole or in part; ``void`` gives it back."""

    POSTED = "posted"
    PENDING = "pending"
    POST = "post"
    VOID = "void"


class Transfer(Entity):
    """An amount from one account to another of the same asset."""

    journal: Ref[Journal]
    seq: int
    debit: Ref[Account]
    credit: Ref[Account]
    asset: Annotated[str, Length(32, min=2)]
    amount: LedgerAmount
    phase: Phase = Phase.POSTED
    resolves: Ref[Transfer] | None = None

    rules = Rules(
        Unique("journal", "seq"),
        Unique("resolves"),
        Foreign("debit", "asset", to=Account, of=("id", "asset")),
        Foreign("credit", "asset", to=Account, of=("id", "asset")),
        Check("seq", f"seq between 1 and {MOST_TRANSFERS}"),
        Check("amount", "amount > 0"),
        Check("sides", "debit_id <> credit_id"),
        Check("resolves_pair", "(phase in ('post', 'void')) = (resolves_id is not null)"),
        Guard(
            "tally_apply",
            "AFTER INSERT",
            "tally.ledger_apply('transfer')",
            each="STATEMENT",
            referencing="NEW TABLE AS fresh",
        ),
        append_only(),
        retain="lending",
        readable={"asset": Readable.CODE},
    )

    @property
    def money(self) -> Money:
        """The amount with its asset."""
        return Money(self.amount, self.asset)


class Leg(msgspec.Struct, frozen=True):
    """A transfer that was not posted yet; ``transfer()`` makes one."""

    debit: UUID
    credit: UUID
    money: Money


def transfer(debit: AccountLike, credit: AccountLike, amount: Money) -> Leg:
    """An amount that debits one account and credits another, to be given to ``db.ledger.post``.

    Raises ``Invalid`` for an amount that is not money above zero, that has more than 38 digits, or that is not of the
    accounts' asset, and for one account on both sides.
    """
    if amount.__class__ is not Money:
        raise Invalid(
            "A transfer's amount should be Money.",
            field="amount",
            remedy='Write usd("12.50") or money("12.50", "USD"); never a float.',
        )
    if not 0 < amount.units <= LEDGER_MAX:
        raise Invalid(
            "A transfer's amount is above zero and has at most 38 digits.",
            field="amount",
            remedy="Swap debit and credit instead of a negative amount; leave out what is zero.",
        )
    sides = (account_id(debit, "debit"), account_id(credit, "credit"))
    if sides[0] == sides[1]:
        raise Invalid("A transfer debits one account and credits another.", field="credit")
    for side, given in (("debit", debit), ("credit", credit)):
        known = given.loaded if isinstance(given, Ref) else given
        if isinstance(known, Account) and known.asset != amount.asset:
            raise Invalid(
                f"The amount is not of the {side} account's asset.",
                field=side,
                remedy="Use ledger.exchange() to go from one asset to another.",
            )
    return Leg(*sides, amount)


def account_id(given: AccountLike, field: str) -> UUID:
    """The id of an account, however it is named."""
    if isinstance(given, UUID):
        return given
    if isinstance(given, (Account, Ref)):
        return given.id
    raise Invalid("An account is named by itself, its ref or its id.", field=field)
