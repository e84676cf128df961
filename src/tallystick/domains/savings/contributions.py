"""Contributions: what each member owes in each round, and what became of it."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated

from tallystick.domains.guarded import Guarded
from tallystick.domains.ledger.journals import Journal
from tallystick.domains.savings.groups import MANAGE, SavingsGroup
from tallystick.domains.savings.members import GroupMember
from tallystick.domains.savings.rounds import GroupRound
from tallystick.entity import Entity
from tallystick.fields import ChainAmount, Once, Ref
from tallystick.rules import Check, Foreign, Guard, Index, Readable, Rules, Transitions, Unique, kept


class ContributionKind(StrEnum):
    """The pot's part, or the fee for having been late with it."""

    REGULAR = "regular"
    LATE_FEE = "late_fee"


class ContributionStatus(StrEnum):
    """Where a contribution is. ``orphaned`` was confirmed on a branch of a chain that is no more."""

    EXPECTED = "expected"
    PENDING = "pending"
    CONFIRMED = "confirmed"
    FAILED = "failed"
    LATE = "late"
    DEFAULTED = "defaulted"
    WAIVED = "waived"
    ORPHANED = "orphaned"


_S = ContributionStatus
UNPAID = (_S.EXPECTED, _S.LATE, _S.FAILED, _S.DEFAULTED)
"""What a member can pay now, a default long past included."""
OPEN = (_S.EXPECTED, _S.LATE, _S.FAILED, _S.PENDING, _S.ORPHANED)
"""What keeps a round from being paid out."""


class Contribution(Entity):
    """What a member owes in a round; one for each kind, and at most one for each log of a chain.

    ``covered`` is what their collateral paid of it. ``effective`` is the business date on which it was paid.
    """

    group: Annotated[Ref[SavingsGroup], Once()]
    round: Annotated[Ref[GroupRound], Once()]
    member: Annotated[Ref[GroupMember], Once()]
    kind: Annotated[ContributionKind, Once()] = ContributionKind.REGULAR
    amount: Annotated[ChainAmount, Once()]
    covered: ChainAmount = 0
    status: ContributionStatus = ContributionStatus.EXPECTED
    effective: date | None = None
    journal: Ref[Journal] | None = None
    chain_id: int | None = None
    tx_hash: bytes | None = None
    log_index: int | None = None

    rules = Rules(
        Unique("round", "member", "kind"),
        Unique("chain_id", "tx_hash", "log_index"),
        Foreign("round", "group", to=GroupRound, of=("id", "group_id")),
        Foreign("member", "group", to=GroupMember, of=("id", "group_id")),
        Index("group", "status", query="what is open in a group"),
        Index("member", "status", query="what a member owes"),
        Check("amount", "amount > 0"),
        Check("covered", "covered <= amount"),
        Check("paid", "status <> 'confirmed' or effective is not null"),
        Check("log", "(chain_id is null) = (tx_hash is null) and (chain_id is null) = (log_index is null)"),
        Check("hash", "tx_hash is null or octet_length(tx_hash) = 32"),
        Transitions(
            "status",
            {
                _S.EXPECTED: [_S.PENDING, _S.CONFIRMED, _S.LATE, _S.DEFAULTED, _S.WAIVED],
                _S.PENDING: [_S.CONFIRMED, _S.FAILED],
                _S.FAILED: [_S.PENDING, _S.CONFIRMED, _S.LATE, _S.DEFAULTED, _S.WAIVED],
                _S.LATE: [_S.PENDING, _S.CONFIRMED, _S.DEFAULTED, _S.WAIVED],
                _S.DEFAULTED: [_S.PENDING, _S.CONFIRMED, _S.WAIVED],
                _S.CONFIRMED: [_S.ORPHANED],
                _S.ORPHANED: [_S.CONFIRMED, _S.FAILED],
            },
            initial=[_S.EXPECTED, _S.CONFIRMED, _S.DEFAULTED],
        ),
        Guard("tally_contribution", "AFTER INSERT OR UPDATE", "tally.circle_contribution('contribution')"),
        kept(),
        retain="savings",
        fillfactor=80,
        readable={"tx_hash": Readable.DIGEST},
    )

    @property
    def owed(self) -> int:
        """What is still to be paid of it, in units."""
        return self.amount - self.covered if self.status in OPEN or self.status is _S.DEFAULTED else 0


class Contributions(Guarded[Contribution]):
    """Contributions; they change through ``db.circles``."""

    permission = MANAGE
    instead = "db.circles.contribute()"
