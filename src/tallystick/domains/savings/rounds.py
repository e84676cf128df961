"""Rounds of a savings group: everybody pays in, one receives."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated

from tallystick.domains.guarded import Guarded
from tallystick.domains.savings.groups import MANAGE, SavingsGroup
from tallystick.domains.savings.members import GroupMember
from tallystick.entity import Entity
from tallystick.fields import Once, Ref
from tallystick.rules import Check, Foreign, Guard, Index, Rules, Transitions, Unique, kept


class RoundStatus(StrEnum):
    """Where a round is: ``funded`` when all have paid, ``defaulted`` when what is missing was given up for now."""

    SCHEDULED = "scheduled"
    OPEN = "open"
    COLLECTING_LATE = "collecting_late"
    FUNDED = "funded"
    DEFAULTED = "defaulted"
    PAID_OUT = "paid_out"
    CLOSED = "closed"


_S = RoundStatus


class GroupRound(Entity):
    """One round, from ``opens_on`` to ``due_on``; at most one of a group is under way.

    ``recipient`` is known from the start where the order is, and from the payout on where members bid.
    """

    group: Annotated[Ref[SavingsGroup], Once()]
    seq: Annotated[int, Once()]
    opens_on: Annotated[date, Once()]
    due_on: Annotated[date, Once()]
    recipient: Ref[GroupMember] | None = None
    status: RoundStatus = RoundStatus.SCHEDULED
    closed_on: date | None = None

    rules = Rules(
        Unique("group", "seq"),
        Unique("group", "recipient", where="recipient_id is not null"),
        Unique("group", where="status not in ('scheduled', 'closed')"),
        Unique("id", "group"),
        Foreign("recipient", "group", to=GroupMember, of=("id", "group_id")),
        Index("due_on", query="rounds that fall due", where="status in ('open', 'collecting_late')"),
        Check("seq", "seq between 1 and 10000"),
        Check("dates", "opens_on <= due_on"),
        Check("closed", "(status = 'closed') = (closed_on is not null)"),
        Transitions(
            "status",
            {
                _S.SCHEDULED: [_S.OPEN],
                _S.OPEN: [_S.COLLECTING_LATE, _S.FUNDED, _S.DEFAULTED, _S.CLOSED],
                _S.COLLECTING_LATE: [_S.FUNDED, _S.DEFAULTED],
                _S.FUNDED: [_S.PAID_OUT, _S.OPEN],
                _S.DEFAULTED: [_S.PAID_OUT, _S.FUNDED, _S.OPEN],
                _S.PAID_OUT: [_S.CLOSED, _S.FUNDED],
            },
            initial=[_S.SCHEDULED],
        ),
        Guard(
            "tally_collected",
            "AFTER UPDATE",
            "tally.circle_round('group_round')",
            when="(old.status, old.recipient_id) is distinct from (new.status, new.recipient_id)",
        ),
        kept(),
        retain="savings",
    )

    @property
    def is_payable(self) -> bool:
        """Whether the pot can be paid out."""
        return self.status in (_S.FUNDED, _S.DEFAULTED)


class GroupRounds(Guarded[GroupRound]):
    """Rounds; they change through ``db.circles``."""

    permission = MANAGE
    instead = "db.circles.start(), pay_out() and advance()"
